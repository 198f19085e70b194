"use strict";
const field = document.getElementById("search");
const found = document.getElementById("found");
const rows = [...document.querySelectorAll("tbody tr")];
field.parentElement.hidden = false;
field.addEventListener("input", () => {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = (row.dataset.group + " " + row.textContent).toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector("tbody tr:not([hidden])");
  }
  found.textContent = words.length ? shown + " of " + rows.length + " calls" : "";
});
