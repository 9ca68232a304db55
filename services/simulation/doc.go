// Package simulation proves identity and order: it holds no code of the mesh, only tests that run the real gateway and verifier and
// the real stages (dedupe, sequencer, embedder, reconciler, and the mechanism that moves their records) over stores and a log in memory that follow the same contracts.
//
//   - world and model: a source with its true history, and what the knowledge base must be in the end, from that history alone.
//   - verifier: the source's requests, signed as it signs, and the event that is made of each by a preset.
//   - gateways: two instances of the real gateway, each with a spool, a ledger of debts and limits of its own, in front of the real verifier
//     and dedupe, which may fail or answer too late. Senders repeat what is not answered with 2xx; forged, altered, unsigned and stale
//     requests come among theirs. What a gateway writes must say what truly happened, the events of each 200 and 202 must be in the
//     log in the end, and what was sent away for lack of room, or as too old, must be a debt. In a share of the seeds deliveries come in herds,
//     Kafka cannot be reached for a while, or the spools are small: they rotate, and become full.
//   - disk: what a gateway has written outlives it; what it has flushed outlives a power cut.
//   - source: the world as its API lists it, in pages that are read while it changes; it asks to be left alone, forgets its cursors, and
//     answers late, also to those that have lost their lease. It sees to it that no cursor leaves behind what was not produced, and that
//     no debt is paid before something was done for it.
//   - feed: in a share of the seeds the source tells of changes only while a subscription lives that it granted. It ends, is lost, refused, or
//     made while its answer is lost; what nobody told of must be polled, and nothing that calls us forgotten.
//   - people: in a share of the seeds the reconcilers tell them of incidents, by the real sender. They are away, slow, answer with errors, or
//     their answer gets lost. In the end they must believe what is true, and nothing may count as told that did not arrive.
//   - reconcilers: two instances of the real reconciler that share two sources through leases, poll, sweep, fill and pay debts, its two
//     stages, and an operator who calls its API: replays dead letters, and has the source polled, swept or read from its beginning.
//   - TestAnyHistoryAndAnyDeliveryConverge: rapid draws a history and how it is delivered; what it finds is shrunk and kept.
//   - TestSimulation: the whole pipeline with crashes between any two steps, zombies, failing stores and brokers, jumping
//     clocks, in virtual time. One seed is one run, to the last step: `make sim SEED=…` repeats it.
//   - TestASeedIsOneRun: seeds are played twice, the second time with goroutines that are delayed wherever they meet, and must come out the
//     same (-sim.twice: for how long). The rules that make it so are at scheduler.
//   - TestTheSimulationMeetsEveryFaultAndEveryRule: what is to be met is counted, and fixed seeds meet all of it.
//
// The line of TestAnyHistoryAndAnyDeliveryConverge has no reconciler: there, polls and the payment of debts are a model.
package simulation
