"""A simulated Solana cluster: the real SVM below, JSON-RPC and WebSocket above, and faults in between.

From the bottom up:

`machine`     LiteSVM (inside `solders`) runs transactions; it knows neither slots nor forks.
`accounts`    what every account held at which slot, so that a read at `finalized` is old.
`records`     the transactions that landed, by signature, address and slot.
`clock`       slots, their times, block hashes and the three commitments.
`store`       the log on disk: what landed, and how far the slots may have got.
`cluster`     the one chain made of these: submit, advance, fork, restart.
`genesis`     the mint, the vault and the faucet of the first start; `faucet` pays from it.
`provider`    one RPC provider's view of the cluster, with `faults` of its own; its methods are in `slots`,
              `state`, `signatures` and `sending`.
`http`, `subscriptions`, `sockets`, `controls`   how it is asked, told and switched from outside.

Only the processes of the sandbox and the tests import it: solders is large.
"""
