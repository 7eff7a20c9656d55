"""The protocol, pure: bytes, ints and values in; bytes and events out. No clock, no socket, no thread.

Start with `entry.merge`: an entry is a last-writer-wins register, and merging two replicas keeps the greater
version of each key. Everything else exists to merge sooner and cheaper. The rules below are the whole
protocol; the modules that carry them say so. A version is `(stamp, origin)`; *held* means in the store,
*covered* in the store or in the context.

Offers: whatever arrives is an offer of `(key, entry)`               `lwwmap.LWWMap.offer`
    O1 held      the same version is held: merge state, lease, value.
    O2 beaten    a greater version of the key is held: ignore the offer.
    O3 gone      covered but not held, and live: removed here, or beaten by something since removed. Do not
                 store it; answer GONE(version), then offer what is held for the key. Whoever is told GONE
                 forgets exactly that version.
    O4 take      else store it; but a dead one whose version is covered only where a smaller version is held.
                 A live one whose lease has passed (D2) is stored dead.
    O5 after it  its version is covered, and so is the version that it replaced, or that its writer removed
                 (a dead entry carries it): by being held, by the frontier, by the clear mark, or by a dot.

Context: `frontier[o] = s`: every write of o up to s is accounted for   `context`, `slices.apply_slice`
    C1  an own write.
    C2  a slice (o, lo, hi, last, items) with frontier[o] >= lo, applied up to its first item that is parked
        or rejected. With frontier[o] < lo there is a gap: items are offers, leave dots, and the slice after
        the frontier is pulled.
    C3  a complete session: the rows of the peer as of its first message, only for origins whose log could
        not answer a pull; their log is cut there, and all dead not accounted for are offered, too.
        What is written meanwhile leaves more dots than a gap may: what was filled must not differ again by then.
        Not where something that they cover has come from another peer meanwhile: this one was not asked about it.
                                                                        `sessions.Sessions._adopt`
    C4  a row (o, last, now): if frontier[o] >= last then frontier[o] = max(frontier[o], now).
    No frontier passes local time + max_drift. A dot never extends a frontier.
    Rows of processes long gone are pruned: who has no row is accounted for up to the prune mark, which is adopted
    at the end of a complete session only.                              `removal.to_prune`, `removal.prune`
    Who hears of a greater mark (context messages tell it) adopts it before it prunes by itself: it may lack what
    processes had written of which there is no row any more.
    So EQUAL compares digests, and the last writes that nobody can have pruned yet: not all rows, of which some are
    gone here and there not yet.                                        `removal.lasts`

Clocks                                                                  `clock`, `correction`, `rewind`
    Stamps are hybrid: never behind what was issued, announced or accepted. One that is ahead of local time by
    more than max_drift is parked, by more than reject_ms rejected. The own clock is compared with the peers': off by
    more than max_drift / 2 from the median of all (of two: from the older generation's), it is corrected; a
    jump is not believed before a peer confirms it; who is set back by more than max_drift takes a new origin.

Ways to go                                                              `lwwmap`, `removal`
    D1 delete is a write.
    D2 expire is computed: reads miss by the own clock; an entry dies, at its own version and with no
       message, once the slowest clock heard from any member in use agrees. Who has peers and has heard
       nobody lets nothing die.
    D3 touch writes the lease: no version, never a revival; absent at the toucher means dead at the base.
    D4 evict is local: the value goes, the entry stays as a ghost; same digest, nothing sent.
    D5 clear is one number, the clear mark: what is at or below it is covered, missing, and soon forgotten.

Memory limits
    E1 eviction never changes the digest.
    E2 what no other member is known to hold is evicted last.
    E3 `maxsize` counts live values; `max_bytes` counts values and index.
    E4 a replica that forgot live entries for want of room is partial: it answers no GONE and is no donor.

Membership                                                              `claims`, `detector`
    The greatest claim (generation, incarnation, standing) about a member holds, as the greatest version does. Who is
    silent is asked about, suspected, then down, unless it says otherwise in a higher incarnation; nobody says
    "alive" for somebody else. A verdict decides of no entry but by who is waited for before the dead are
    collected: whoever has left is not.

Spreading                                                               `spread`, `relay`, `members`
    A write is sent once to each member: by its writer in a region of up to 24, down a tree in a larger one, and once
    across to each other region, to the first there in an order that everybody computes. Only what a frontier has
    reached is passed on; who had to ask for it acts as the first. Above 64 members (`full_mesh`) only those are linked
    that tell each other something (at most 75 links, in 1 to 5 regions of up to 200); D2 goes by their clocks alone.
    While somebody waits, slices ask and everybody answers the writer with its row (I5): `wait_replicated`.

Collection: a deleted entry is forgotten when it has been held dead for `min_dead_age` and the low watermark
(the least frontier here over the origins in use) has reached its stamp. Below the watermark nothing unknown
can still arrive, and O3 answers for what was forgotten, so nobody else has to agree. An entry dead by expiry
is forgotten `min_dead_age` after it died, watermark or not. What had been dead for so long before it came here,
by its stamp and the own clock, waits for the watermark only: where processes live for a few minutes each handed
its dead to the next, and no entry was ever collected (measured: every delete since the start, on every node).

Invariants that tests and the simulator hold the code to
    I1  convergence: replicas that can talk end with equal visible maps.
    I2  equal digests <=> equal visible maps; the incremental tree equals a rebuilt one.
    I3  no resurrection: no replica whose context covers a delete shows what that delete had seen.
    I4  nothing newer is lost: the visible value is the greatest version that has left its node.
    I5  acknowledged means accounted for.
    I6  covered(w) => held, or beaten by something held, or dominated by a removal that is covered.
    I7  stamps strictly increase per origin; a lying clock moves nobody beyond true time + max_drift.
    I8  everything is bounded.
    I9  traffic: N-1 payload copies a write; an idle cluster says almost nothing; evictions move nothing.
    I10 nothing is served after its expiry + max_drift by an honest clock, and nothing dies before it.
    I11 eviction changes no digest.
    I12 a crashed node is known to be down in bounded time; a healed partition is whole in bounded time.
    I13 reads are monotonic per replica.
    I14 every session ends, without ping-pong.
    I15 neighbouring wire versions satisfy I1 and I2.
    I16 same inputs, same outputs, whatever PYTHONHASHSEED is.

What of this is not built yet (E4's partial replicas, chunked and fetched values) is listed in the README under
"Not yet".
"""
