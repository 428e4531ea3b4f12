// The values below the pointer, read out of the table that belongs to each chart.
export function dressCharts(root) {
  for (const figure of root.querySelectorAll("[data-chart]:not([data-dressed])")) dress(figure);
}

function dress(figure) {
  figure.dataset.dressed = "";
  const ground = figure.querySelector(".chart-ground");
  const table = figure.querySelector(".chart-table");
  const heads = [...table.querySelectorAll("thead th")].slice(1).map((head) => head.textContent);
  const tip = document.createElement("div");
  tip.className = "chart-tip";
  tip.hidden = true;
  ground.append(tip);
  for (const hit of ground.querySelectorAll(".hit")) {
    hit.addEventListener("pointerenter", () => show(tip, ground, { hit, table, heads }));
  }
  ground.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
}

function show(tip, ground, { hit, table, heads }) {
  const row = table.querySelector(`tr[data-bucket="${hit.dataset.bucket}"]`);
  const values = [...row.querySelectorAll("td")].map((cell) => cell.textContent);
  const title = document.createElement("p");
  title.textContent = row.querySelector("th").textContent;
  const list = document.createElement("dl");
  heads.forEach((head, index) => {
    if (heads.length > 2 && /^[−-]?0(\.0+)?$/.test(values[index])) return;
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = head;
    value.textContent = values[index];
    list.append(name, value);
  });
  tip.replaceChildren(title, list);
  tip.hidden = false;
  const place = hit.getBoundingClientRect();
  const frame = ground.getBoundingClientRect();
  const middle = place.left + place.width / 2 - frame.left;
  const left = Math.min(Math.max(middle - tip.offsetWidth / 2, 0), frame.width - tip.offsetWidth);
  tip.style.left = `${left}px`;
}
