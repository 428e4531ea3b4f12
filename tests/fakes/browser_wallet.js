// A wallet of the Wallet Standard for tests, as an extension would put it into the page: it knows addresses, keeps no key and reaches no chain.
// What it is asked to sign goes to the test, which answers as the wallet's owner would.
(terms) => {
  const listeners = new Set();
  let accounts = [];

  const every = terms.addresses.map((one) => Object.freeze({
    address: one.address,
    publicKey: new Uint8Array(one.publicKey),
    chains: terms.accountChains,
    features: terms.accountFeatures,
    label: one.label,
  }));

  async function ask(what, details) {
    const answer = await window.askTestWallet(terms.name, what, details);
    if (!answer.error) return answer;
    throw Object.assign(new Error(answer.error.message), answer.error.code === null ? {} : { code: answer.error.code });
  }

  function use(chosen) {
    accounts = chosen;
    for (const listener of listeners) listener({ accounts });
  }

  const bytesOf = (bytes) => Array.from(bytes);

  const able = {
    "standard:connect": {
      version: "1.0.0",
      connect: async ({ silent = false } = {}) => {
        const { count } = await ask("connect", { silent });
        accounts = every.slice(0, count);
        return { accounts };
      },
    },
    "standard:disconnect": { version: "1.0.0", disconnect: async () => use([]) },
    "standard:events": {
      version: "1.0.0",
      on: (_, listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    "solana:signAndSendTransaction": {
      version: "1.0.0",
      supportedTransactionVersions: ["legacy", 0],
      signAndSendTransaction: async ({ account, chain, transaction }) => {
        if (!accounts.includes(account)) throw new Error("invalid account");
        const answer = await ask("pay", { address: account.address, chain, transaction: bytesOf(transaction) });
        return [{ signature: new Uint8Array(answer.signature) }];
      },
    },
    "solana:signMessage": {
      version: "1.0.0",
      signMessage: async ({ account, message }) => {
        if (!accounts.includes(account)) throw new Error("invalid account");
        const answer = await ask("sign", { address: account.address, message: bytesOf(message) });
        return [{ signedMessage: new Uint8Array(answer.signedMessage), signature: new Uint8Array(answer.signature) }];
      },
    },
  };

  const wallet = Object.freeze({
    version: "1.0.0",
    name: terms.name,
    icon: terms.icon,
    chains: terms.chains,
    features: Object.fromEntries(Object.entries(able).filter(([name]) => terms.features.includes(name))),
    get accounts() {
      return accounts;
    },
  });

  window.testWallets ??= {};
  window.testWallets[terms.name] = {
    switchTo: (...places) => use(places.map((place) => every[place])),
    appear: () => window.dispatchEvent(new CustomEvent("wallet-standard:register-wallet", { detail: ({ register }) => register(wallet) })),
  };
  if (!terms.late) {
    window.dispatchEvent(new CustomEvent("wallet-standard:register-wallet", { detail: ({ register }) => register(wallet) }));
    window.addEventListener("wallet-standard:app-ready", ({ detail: { register } }) => register(wallet));
  }
}
