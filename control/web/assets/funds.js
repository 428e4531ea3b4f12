// The page "Add funds": the amount, paying with a wallet of this browser, and what changes while somebody watches.
//
// The server renders; this script fetches parts of the page anew and puts them in place.

import { AmountProblem, readAmount, writeAmount } from "./funds-amount.js";
import { dressCopyables } from "./copy.js";
import { dressForms } from "./forms.js";
import { dressMoments } from "./moments.js";
import { fromBase64 } from "./wallet-bytes.js";
import { WalletPicker } from "./wallet-picker.js";
import { WalletProblem } from "./wallet-problem.js";
import { PAYING } from "./wallet-session.js";

const TYPING_MS = 350;
const WAITING_MS = 1_000; // between two looks while a payment is on its way
const RESTING_MS = 5_000;
const FRESH_MS = 4_000; // after a change, which is often followed by another
const IDLE_MS = 30_000; // when nothing has changed for long
const IDLE_AFTER_MS = 600_000;
const ANSWER_MS_MAX = 15_000;

const place = document.querySelector("[data-funds]");
const home = place?.dataset.funds ?? location.pathname;
const announced = document.querySelector("[data-announce]");
// The page's own address, also where it was the answer to a form.
const address = location.pathname === home ? new URL(location.href) : new URL(home, location.origin);

// --- parts of the page

async function fetchPart(path) {
  const answer = await fetch(path, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  if (answer.status === 401) location.reload(); // the token was revoked meanwhile: what stands here is not for this reader any more
  if (!answer.ok) throw new Error(`The page answered ${answer.status}.`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// Puts each part of `page` where the old one is, unless it is the same; returns whether anything changed.
function put(page) {
  let changed = false;
  for (const fresh of page.querySelectorAll("[data-part]")) {
    const old = document.querySelector(`[data-part="${fresh.dataset.part}"]`);
    if (!old || shown.get(old) === fresh.outerHTML) continue;
    const markup = fresh.outerHTML;
    const focused = reachable(old).indexOf(document.activeElement);
    old.replaceWith(fresh);
    shown.set(fresh, markup);
    dressCopyables(fresh);
    dressMoments(fresh);
    dressForms(fresh);
    reachable(fresh)[focused]?.focus({ preventScroll: true });
    changed = true;
  }
  return changed;
}

function reachable(part) {
  return [...part.querySelectorAll("a, button, input, select, summary")];
}

// What each part was before the scripts dressed it, to tell whether a fresh one differs.
const shown = new WeakMap();

// --- what changes by itself

let changedAt = Date.now() - FRESH_MS;
let lastTitle = "";
let timer = 0;

async function look() {
  clearTimeout(timer);
  const query = new URLSearchParams([...address.searchParams].filter(([name]) => name === "payment" || name === "before"));
  try {
    if (put(await fetchPart(`${home}/now?${query}`))) changedAt = Date.now();
    announce();
  } catch {
    // The next look may do better; what stands on the page was true a moment ago.
  }
  plan();
}

function plan() {
  clearTimeout(timer);
  if (document.hidden) return;
  const isWaiting = document.querySelector("[data-part='figures']")?.hasAttribute("data-waiting");
  const since = Date.now() - changedAt;
  timer = setTimeout(look, isWaiting || since < FRESH_MS ? WAITING_MS : since > IDLE_AFTER_MS ? IDLE_MS : RESTING_MS);
}

function announce() {
  const title = document.querySelector("[data-part='payment'] [data-title]")?.textContent ?? "";
  const words = document.querySelector("[data-part='payment'] [data-words]")?.textContent ?? "";
  if (title && title !== lastTitle) announced.textContent = `${title}. ${words}`;
  lastTitle = title;
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
plan();

// --- the amount

const form = document.querySelector("[data-amount-form]");
const input = form?.querySelector("[name='amount']");
let picker = null;
let typing = 0;

function amountNow() {
  const text = input.value.trim();
  return text === "" ? null : readAmount(text);
}

function amountChanged() {
  let amount = null;
  let fault = "";
  try {
    amount = amountNow();
  } catch (error) {
    if (!(error instanceof AmountProblem)) throw error;
    fault = error.message;
  }
  showFault(fault);
  for (const one of form.querySelectorAll("[data-amount]")) {
    if (amount !== null && one.dataset.amount === writeAmount(amount)) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  }
  picker?.name(amount === null ? "" : `Pay ${writeAmount(amount)} USDC`);
  picker?.say(amount === null && !fault ? "Say how much, and pay." : "");
  clearTimeout(typing);
  if (!fault) typing = setTimeout(() => ask(amount), TYPING_MS);
}

// Has the code and the links show the amount, and keeps it in the page's address.
async function ask(amount) {
  address.searchParams.set("amount", amount === null ? "" : writeAmount(amount));
  history.replaceState(null, "", address);
  try {
    put(await fetchPart(`${home}/pay?${new URLSearchParams({ amount: address.searchParams.get("amount") })}`));
  } catch {
    for (const part of document.querySelectorAll("[data-part='phone'], [data-part='test-money']")) part.hidden = true; // rather none than another amount
  }
}

function showFault(words) {
  const field = input.closest(".field");
  const help = document.getElementById(input.getAttribute("aria-describedby"));
  help.dataset.words ??= help.textContent;
  field.classList.toggle("field-wrong", words !== "");
  help.className = words ? "field-error" : "field-help";
  help.textContent = words || help.dataset.words;
  input.toggleAttribute("aria-invalid", words !== "");
}

if (form) {
  form.querySelector("[data-amount-button]").hidden = true;
  input.addEventListener("input", amountChanged);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    amountChanged();
  });
  for (const one of form.querySelectorAll("[data-amount]")) {
    one.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      input.value = one.dataset.amount;
      amountChanged();
    });
  }
}

// --- paying with a wallet

// Asks for the transaction that pays `amount` from `payer`; what is wrong with it comes as words.
async function transactionFor(payer, amount) {
  const answer = await fetch(`${place.dataset.pay}?amount=${writeAmount(amount)}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ account: payer }),
    signal: AbortSignal.timeout(ANSWER_MS_MAX),
  }).catch(() => {
    throw new WalletProblem("server", "This service did not answer. Nothing was paid. Try again in a moment.");
  });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return fromBase64(body.transaction);
  throw new WalletProblem(body.error?.code === "payer_lacks_funds" ? "account" : "server", refusalWords(body.error, amount));
}

function refusalWords(error, amount) {
  const network = document.querySelector("[data-wallets]").dataset.network;
  switch (error?.code) {
    case "payer_lacks_funds":
      return `This address has ${writeAmount(BigInt(error.details.available))} USDC on ${network}, and ${writeAmount(amount)} are asked for. Choose a smaller amount or another address.`;
    case "payer_has_no_account":
      return `This address has no USDC on ${network}. Choose another address, or send it some USDC first.`;
    default:
      return error?.message ? `${error.message} Nothing was paid.` : "This service could not make the payment. Nothing was paid. Try again in a moment.";
  }
}

async function pay(session) {
  const amount = amountNow();
  if (amount === null) return;
  session.require(PAYING);
  picker.say("Making the payment …");
  const transaction = await transactionFor(session.account.address, amount);
  picker.say(`Look at the payment of ${writeAmount(amount)} USDC in ${session.name}, and approve it there …`);
  const signature = await session.pay(transaction);
  picker.say(`${session.name} has sent the payment.`, "good");
  address.searchParams.set("payment", signature);
  address.hash = "payment";
  history.replaceState(null, "", address);
  await look();
  document.getElementById("payment")?.scrollIntoView({ block: "center" });
}

// What this wallet has paid without a memo can be claimed at once.
async function showClaimable(session) {
  const old = document.querySelector("[data-part='claimable']");
  if (!old) return;
  if (session === null) {
    old.replaceChildren();
    shown.delete(old);
    return;
  }
  try {
    put(await fetchPart(`${home}/claimable?${new URLSearchParams({ wallet: session.account.address })}`));
  } catch {
    // Then it is claimed by its signature.
  }
}

const wallets = document.querySelector("[data-wallets]");
if (wallets && form) {
  document.querySelector("[data-without-script]").remove();
  document.querySelector("[data-wallet-section]").hidden = false;
  picker = new WalletPicker(wallets, { act: pay, connected: showClaimable });
  amountChanged();
  clearTimeout(typing);
}
