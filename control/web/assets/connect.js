// A test request without leaving the page: its answer comes in the place that is kept for it.
const form = document.querySelector("[data-trial-form]");
const place = document.querySelector("[data-trial]");
if (form && place) form.addEventListener("submit", send);

async function send(event) {
  event.preventDefault();
  const button = form.querySelector("button");
  if (button.disabled) return;
  const word = button.textContent;
  button.disabled = true;
  button.textContent = "Sending…";
  place.dataset.busy = "";
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = page.querySelector("[data-trial]");
    if (found) place.replaceChildren(...found.childNodes);
    else say(page.querySelector("main p:not(.message-number)")?.textContent ?? "That did not work. Try again shortly.");
  } catch {
    say("The service cannot be reached. Try again shortly.");
  } finally {
    delete place.dataset.busy;
    button.disabled = false;
    button.textContent = word;
  }
}

function say(text) {
  const line = document.createElement("p");
  line.textContent = text;
  const block = document.createElement("div");
  block.className = "trial trial-failed";
  block.append(line);
  place.replaceChildren(block);
}
