// What happens to the account, as it happens: by events of the server, or by asking again and again where they do not come through.
import { dressMoments } from "./moments.js";

const LINES_MAX = 10;
const POLL_MS = 15_000;
const FAULTS_MAX = 3;

// Only while somebody looks: browsers allow few connections to one host, and hidden tabs would use them up.
export function followAccount({ changed }) {
  const place = document.querySelector("[data-events]");
  if (!place || !("EventSource" in window)) return;
  const follower = { address: place.dataset.events, changed, source: null, faults: 0, polling: false };
  open(follower);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close(follower);
    else if (!follower.polling) open(follower);
  });
  addEventListener("pagehide", () => close(follower));
}

function open(follower) {
  if (follower.source) return;
  const source = new EventSource(follower.address);
  follower.source = source;
  source.addEventListener("open", () => {
    follower.faults = 0;
    tell("live");
  });
  source.addEventListener("position", (event) => patch(JSON.parse(event.data)));
  source.addEventListener("lines", (event) => {
    if (prepend(JSON.parse(event.data).html)) follower.changed();
  });
  source.addEventListener("gone", () => {
    close(follower);
    location.reload();
  });
  source.addEventListener("error", () => {
    follower.faults += 1;
    tell("");
    if (source.readyState !== EventSource.CLOSED && follower.faults < FAULTS_MAX) return;
    close(follower);
    poll(follower);
  });
}

function close(follower) {
  follower.source?.close();
  follower.source = null;
  tell("");
}

function poll(follower) {
  if (follower.polling) return;
  follower.polling = true;
  setInterval(follower.changed, POLL_MS);
}

function tell(word) {
  const place = document.querySelector("[data-live-state]");
  if (place) place.textContent = word ? `· ${word}` : "";
}

// Figures come as markup that the server made of numbers alone.
function patch(figures) {
  for (const [name, markup] of Object.entries(figures)) {
    for (const place of document.querySelectorAll(`[data-live="${name}"]`)) {
      if (place.innerHTML !== markup) place.innerHTML = markup;
    }
  }
}

// Add the rows that are newer than those shown; tell whether there were any.
export function prepend(html) {
  const table = document.querySelector("[data-lines]");
  if (!table) return false;
  const made = document.createElement("template");
  made.innerHTML = html;
  const body = table.tBodies[0];
  const newest = Number(body.querySelector("tr[data-line]")?.dataset.line ?? 0);
  let added = false;
  for (const row of [...made.content.querySelectorAll("tr[data-line]")].reverse()) {
    if (Number(row.dataset.line) <= newest) continue;
    row.classList.add("fresh");
    body.prepend(row);
    added = true;
  }
  if (!added) return false;
  while (body.rows.length > LINES_MAX) body.rows[body.rows.length - 1].remove();
  table.hidden = false;
  const none = document.querySelector("[data-no-lines]");
  if (none) none.hidden = true;
  dressMoments(table);
  return true;
}
