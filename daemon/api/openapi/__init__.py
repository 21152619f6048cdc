"""GET /openapi.json: what is served, described from the URL map and the tables that serve it.

Map: operations (a line for each route) names a body (bodies, made from the protocols' tables of fields), a reply (replies) and
the errors (errors, made from the error catalogue); document puts them together and answers the request.

To describe a new route: a line in operations; a test fails until it is there.
"""

from daemon.api.openapi.document import document, make_blueprint

__all__ = ["document", "make_blueprint"]
