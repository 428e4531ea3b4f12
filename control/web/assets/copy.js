// Buttons that copy a text, and that show a secret which is hidden until asked for.
const SHOWN_MS = 1600;

export function dressCopyables(root) {
  for (const place of root.querySelectorAll("[data-copyable]:not([data-dressed])")) dress(place);
}

function dress(place) {
  place.dataset.dressed = "";
  const shown = place.querySelector(".copyable-text");
  const text = shown.textContent;
  const label = place.querySelector(".copyable-label")?.textContent ?? "";
  if ("secret" in place.dataset) place.append(revealButton(shown, text));
  const button = makeButton("Copy", label ? `Copy: ${label}` : "Copy");
  button.addEventListener("click", () => copy(button, shown, text));
  place.append(button);
}

function revealButton(shown, text) {
  const hidden = masked(text);
  shown.textContent = hidden;
  const button = makeButton("Show", "Show the secret");
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const reveal = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(reveal));
    button.textContent = reveal ? "Hide" : "Show";
    shown.textContent = reveal ? text : hidden;
  });
  return button;
}

// Secrets of ours are hidden where they stand, so that what surrounds them can be read.
export function masked(text) {
  return text.replace(/(l5_[0-9a-z]{1,13}_)[0-9a-f]{64}/g, "$1••••••••");
}

async function copy(button, shown, text) {
  try {
    await navigator.clipboard.writeText(text);
    say(button, "Copied");
  } catch {
    getSelection().selectAllChildren(shown);
    say(button, "Selected");
  }
}

function say(button, word) {
  const before = button.dataset.word ?? button.textContent;
  button.dataset.word = before;
  button.textContent = word;
  setTimeout(() => {
    button.textContent = before;
  }, SHOWN_MS);
}

function makeButton(word, label) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain button-small";
  button.textContent = word;
  button.setAttribute("aria-label", label);
  return button;
}
