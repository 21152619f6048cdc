"""What the gateway decides, as values and functions: no I/O, no clock, no randomness.

Map: strict_json (bytes of a request -> dict, or a refusal) -> errors (the catalogue of every error a client
can see) -> usage (counts per meter) -> pricing (usage x price x multipliers, and the ceiling a hold needs) ->
estimate (counting tokens when the upstream said nothing).
"""
