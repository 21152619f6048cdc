"""The life of a request, from an authenticated call to a closed hold.

call       Call: what came in, as plain values; Plan: what was decided for it
upload     Upload: a form that is received, read for its price and sent on without being held
passage    how a call's bytes go to a provider and come back: same (as they are), translated; choice chooses
admission  admit(): cheap refusals, then the hold (the only authoritative check)
attempts   candidates in order; another one only while nothing was sent to the client
exchange   Exchange: the task that owns one call: admit, attempt, relay, settle
settlement what a call used and what it costs; the one way a hold ends
client     the client's side of the connection: head, chunks, a deadline for slow readers
"""
