// Which wallets there are: the discovery of the Wallet Standard, in both orders in which page and wallet may come to life.
//
// A wallet that is there first hears our `app-ready` and registers; one that comes later says `register-wallet`, and we hand it the same
// `register`. Nothing that a wallet does here may break the page, so each call into one is guarded.

// Calls `changed` with the list of wallets now and whenever it changes.
export function watchWallets(changed) {
  const wallets = new Set();
  const tell = () => changed([...wallets]);

  function register(...found) {
    const fresh = found.filter((wallet) => isWallet(wallet) && !wallets.has(wallet));
    fresh.forEach((wallet) => wallets.add(wallet));
    if (fresh.length) tell();
    return () => {
      if (fresh.filter((wallet) => wallets.delete(wallet)).length) tell();
    };
  }

  const api = Object.freeze({ register });
  window.addEventListener("wallet-standard:register-wallet", (event) => {
    try {
      event.detail(api);
    } catch {
      // A wallet that cannot even register cannot pay either.
    }
  });
  window.dispatchEvent(new AppReady(api));
  tell();
}

class AppReady extends Event {
  #api;

  constructor(api) {
    super("wallet-standard:app-ready", { bubbles: false, cancelable: false, composed: false });
    this.#api = api;
  }

  get detail() {
    return this.#api;
  }
}

function isWallet(wallet) {
  try {
    return typeof wallet.name === "string" && typeof wallet.features === "object" && Array.isArray(wallet.chains) && Array.isArray(wallet.accounts);
  } catch {
    return false;
  }
}
