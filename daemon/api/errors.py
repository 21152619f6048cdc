"""Quart's own errors (404, 405, 413, 500 …) as JSON in the caller's envelope; never a page, never a traceback."""

from __future__ import annotations

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge, RequestTimeout

from daemon import log
from daemon.api.reply import error_reply
from daemon.domain.errors import ApiError
from db.errors import DatabaseUnavailable


def install(app: Quart) -> None:
    """Register the handlers."""

    @app.errorhandler(ApiError)
    async def api_error(error: ApiError) -> Response:
        return error_reply(error)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        if isinstance(error, MethodNotAllowed):
            allow = ", ".join(sorted(set(error.valid_methods or ()) - {"OPTIONS"}))
            return error_reply(
                ApiError.of(
                    "method_not_allowed", method=request.method, path=request.path, allow=allow, headers={"Allow": allow}
                )
            )
        if isinstance(error, NotFound):
            return error_reply(ApiError.of("unknown_url", method=request.method, path=request.path))
        if isinstance(error, RequestEntityTooLarge):
            return error_reply(ApiError.of("payload_too_large", limit=app.config["MAX_CONTENT_LENGTH"]))
        if isinstance(error, RequestTimeout):
            return error_reply(ApiError.of("request_timeout"))
        status = error.code or 500
        if status < 500:
            return error_reply(ApiError.of("invalid_value", param="request", reason=error.name.lower()))
        return error_reply(ApiError.of("internal_error"))

    @app.errorhandler(DatabaseUnavailable)
    async def no_database(error: DatabaseUnavailable) -> Response:
        log.error("database unavailable", text=error.message)
        return error_reply(ApiError.of("database_unavailable"))

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        log.exception("request failed", error, path=request.path)
        return error_reply(ApiError.of("internal_error"))
