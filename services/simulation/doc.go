// Package simulation proves identity and order: it holds no code of the mesh, only tests that run the real stages (dedupe,
// sequencer, embedder, and the mechanism that moves their records) over stores and a log in memory that follow the same contracts.
//
//   - world and model: a source with its true history, and what the knowledge base must be in the end, from that history alone.
//   - TestAnyHistoryAndAnyDeliveryConverge: rapid draws a history and how it is delivered; what it finds is shrunk and kept.
//   - TestSimulation: the whole pipeline with crashes between any two steps, zombies, failing stores and brokers, jumping
//     clocks, in virtual time. One seed is one run, to the last step: `make sim SEED=…` repeats it.
package simulation
