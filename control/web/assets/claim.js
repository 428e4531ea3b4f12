// The page of a claim: the wallet that sent the payment signs the text, and the signature is posted as the form below would post it.

import { WalletPicker } from "./wallet-picker.js";
import { WalletProblem } from "./wallet-problem.js";

const place = document.querySelector("[data-wallets]");
const form = document.querySelector("[data-proof]");

function short(address) {
  return `${address.slice(0, 6)}…${address.slice(-6)}`;
}

let preferred = null;

// Takes the address that must sign, where a wallet that was just connected has given it.
function prefer(session) {
  if (session === null) return;
  const sender = place.dataset.wallet;
  if (session !== preferred && session.accounts.some((account) => account.address === sender)) {
    session.choose(sender);
    place.querySelector("[data-address]").value = sender;
  }
  preferred = session;
  const fits = session.account.address === sender;
  picker.say(fits ? "" : wrongWallet(session), fits ? "neutral" : "attention");
}

function wrongWallet(session) {
  return `This payment was sent by ${short(place.dataset.wallet)}, and ${session.name} has ${short(session.account.address)} in use. Switch to the address that paid.`;
}

async function sign(session) {
  if (session.account.address !== place.dataset.wallet) throw new WalletProblem("account", wrongWallet(session));
  picker.say(`Read the text in ${session.name}, and sign it there …`);
  const text = document.querySelector("[data-claim-text] .copyable-text").textContent;
  const { signature, envelope } = await session.sign(text);
  picker.say("Signed. Proving it …", "good");
  form.querySelector("[name='wallet_signature']").value = signature;
  form.querySelector("[name='envelope']").value = envelope;
  form.requestSubmit();
}

let picker = null;
if (place && form) {
  document.querySelector("[data-wallet-section]").hidden = false;
  picker = new WalletPicker(place, { act: sign, connected: prefer });
  picker.name("Sign the text");
}
