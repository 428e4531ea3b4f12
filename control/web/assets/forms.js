// Forms are sent once; and where the browser tells no server who sent one (plain HTTP from afar), by fetch, which does.
import { dressCopyables } from "./copy.js";
import { dressMoments } from "./moments.js";

export function dressForms(root) {
  for (const form of root.querySelectorAll('form[method="post"]:not([data-dressed])')) {
    form.dataset.dressed = "";
    form.addEventListener("submit", (event) => submit(event, form));
  }
}

function submit(event, form) {
  if (event.defaultPrevented) return;
  if ("sent" in form.dataset) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "";
  addEventListener("pageshow", () => delete form.dataset.sent, { once: true });
  if (isSecureContext) return;
  event.preventDefault();
  send(form, event.submitter);
}

async function send(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } });
  if (answer.redirected) {
    location.assign(answer.url);
    return;
  }
  const text = await answer.text();
  const page = new DOMParser().parseFromString(text, "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
  document.title = page.title;
  dressCopyables(document);
  dressMoments(document);
  dressForms(document);
}
