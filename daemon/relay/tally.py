"""How one call is counted in shared counters: once, whatever admission has to try."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from daemon.gateway import Gateway
from db.limits import Limit, Limits, Standing


@dataclass(slots=True)
class Reserved:
    """What a call took of a window in the shared counters."""

    limits: Limits
    window_at: int


@dataclass(slots=True)
class Tally:
    """`standing` is what the shared counters said, None as long as nothing did: then the database counts."""

    gateway: Gateway
    standing: Standing | None = None
    _limits: Limits | None = None
    _by_database: bool = field(default=False)

    @property
    def counted(self) -> bool:
        """Whether the call is counted, or refused, by the shared counters."""
        return self.standing is not None

    @property
    def refused(self) -> bool:
        return self.standing is not None and self.standing.refused is not None

    @property
    def reserved(self) -> Reserved | None:
        """What is to be corrected when the call ends."""
        if self.standing is None or self._limits is None or self.refused:
            return None
        return Reserved(self._limits, self.standing.key.window_at)

    async def take(self, limits: Limits) -> Limits | None:
        """Count the call, once; what is left for the database to count (None: nothing). See `refused`."""
        counters = self.gateway.counters
        if counters is None or self._by_database:
            return limits
        if self.reserved is None:
            self.standing = await counters.take(limits)
            if self.standing is None:
                self._by_database = True
                return limits
        else:
            self._adjust(limits)
        self._limits = limits
        if self.refused or limits.max_parallel is None:
            return None
        return replace(limits, rpm=None, tpm=None, user_rpm=None)

    def _adjust(self, limits: Limits) -> None:
        """It is counted already, for another number of tokens or by limits that were changed meanwhile."""
        standing, earlier, counters = self.standing, self._limits, self.gateway.counters
        assert standing is not None
        assert earlier is not None
        assert counters is not None
        more = limits.reserved_tokens - earlier.reserved_tokens
        counters.correct(earlier, standing.key.window_at, more)
        key = replace(standing.key, tokens=standing.key.tokens + more)
        self.standing = replace(standing, key=key)
        if limits.rpm is not None and key.requests > limits.rpm:
            self.standing = replace(self.standing, refused=Limit.REQUESTS)

    def give_back(self, *, request: bool) -> None:
        """The call places no hold: its tokens come back; with `request` it does not count as one either."""
        found, counters = self.reserved, self.gateway.counters
        if found is not None and counters is not None:
            counters.correct(found.limits, found.window_at, -found.limits.reserved_tokens, int(request))
