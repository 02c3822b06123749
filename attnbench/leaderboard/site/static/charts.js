// Draws the charts, and lets the reader follow one method through all of them and through the tables.
// Without this script, each chart is a picture.
"use strict";

const views = [];
const follow = document.getElementById("follow");

function followMethod(name) {
  for (const view of views) view.signal("followed", name).runAsync();
  for (const row of document.querySelectorAll("tr[data-method]")) {
    row.classList.toggle("followed", name !== "" && row.dataset.method === name);
  }
  if (follow !== null) follow.value = name;
}

for (const holder of document.querySelectorAll(".chart")) {
  const drawing = holder.querySelector(".drawing");
  const specification = JSON.parse(holder.querySelector("script").textContent);
  drawing.hidden = false;
  vegaEmbed(drawing, specification, chartOptions).then(({ view }) => {
    holder.querySelector("img").hidden = true;
    views.push(view);
    view.addEventListener("click", (event, item) => {
      const name = item?.datum?.method ?? "";
      followMethod(name === view.signal("followed") ? "" : name);
    });
  });
}

if (follow !== null) {
  follow.addEventListener("change", () => followMethod(follow.value));
  follow.form.addEventListener("submit", (event) => event.preventDefault());
  follow.form.hidden = false;
}
