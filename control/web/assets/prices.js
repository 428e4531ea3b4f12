// Finding a model while typing; without this script the form asks the server.
const input = document.querySelector("[data-search]");
const count = document.querySelector("[data-search-count]");
const rows = [...document.querySelectorAll("tr[data-model]")];

if (input && rows.length && !new URLSearchParams(location.search).get("q")) {
  document.querySelector("[data-search-button]").hidden = true;
  input.form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", () => find(input.value.trim().toLowerCase()));
}

function find(wanted) {
  let found = 0;
  for (const row of rows) {
    row.hidden = wanted !== "" && !row.dataset.model.toLowerCase().includes(wanted);
    if (!row.hidden) found += 1;
  }
  for (const section of document.querySelectorAll("[data-provider]")) section.hidden = !section.querySelector("tr[data-model]:not([hidden])");
  for (const many of document.querySelectorAll("[data-many]")) many.open = wanted !== "";
  count.textContent = `${found.toLocaleString("en")} model${found === 1 ? "" : "s"}`;
}
