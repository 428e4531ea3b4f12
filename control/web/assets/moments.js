// Moments stand on the page in UTC; a reader may want them in local time, and ages must stay true.
const KEY = "level5.times";
const AGES = [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3_600], ["minute", 60]];

export function timesChosen() {
  try {
    return localStorage.getItem(KEY) === "local" ? "local" : "utc";
  } catch {
    return "utc";
  }
}

export function chooseTimes(kind) {
  try {
    localStorage.setItem(KEY, kind);
  } catch {
    // Holds for this page alone.
  }
  for (const place of document.querySelectorAll("time[data-moment]")) write(place, kind);
  document.dispatchEvent(new CustomEvent("level5:times", { detail: kind }));
}

export function dressMoments(root) {
  for (const place of root.querySelectorAll("time[data-moment]")) write(place, timesChosen());
}

setInterval(() => dressMoments(document), 30_000);

function write(place, kind) {
  const at = new Date(place.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const text = place.dataset.moment === "ago" ? age(at) : kind === "local" ? local(at) : utc(at);
  if (place.textContent !== text) place.textContent = text;
  place.title = `${utc(at)} UTC`;
}

function age(at) {
  const seconds = (Date.now() - at.getTime()) / 1000;
  for (const [name, length] of AGES) {
    const number = Math.floor(seconds / length);
    if (number >= 1) return `${number} ${name}${number === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

export function utc(at) {
  return at.toISOString().slice(0, 19).replace("T", " ");
}

export function local(at) {
  const two = (number) => String(number).padStart(2, "0");
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}
