// Compares two methods: the joint difference, that of each task, and a point for each target.
"use strict";

const boards = JSON.parse(document.getElementById("pairs").textContent);
const form = document.getElementById("choice");
const [track, first, second] = ["track", "first", "second"].map((name) => form.elements[name]);
const sentence = document.getElementById("sentence");
const table = document.querySelector("#differences tbody");
const drawing = document.querySelector("#targets .drawing");
const template = JSON.parse(document.querySelector("#targets script").textContent);

const board = () => boards[track.selectedIndex];
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

function fill(select, names) {
  const earlier = select.value;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(earlier)) select.value = earlier;
}

// Pairs are stored once, with the method that stands higher first.
function difference(list, one, other) {
  const count = board().methods.length;
  const [low, high] = one < other ? [one, other] : [other, one];
  const values = list[low * count - (low * (low + 1)) / 2 + high - low - 1];
  if (one < other) return values;
  const [value, bottom, top] = values.map((number) => -number);
  return bottom === undefined ? [value] : [value, top, bottom];
}

function words([value, low, high]) {
  return signed(value) + (low === undefined ? "" : ` [${signed(low)}, ${signed(high)}]`);
}

function draw(values, tasks) {
  vegaEmbed(drawing, { ...template, height: 55 + 44 * tasks, data: { values } }, chartOptions);
}

function show() {
  const { methods, tasks, joint } = board();
  const [one, other] = [first.selectedIndex, second.selectedIndex];
  const [oneName, otherName] = [methods[one].name, methods[other].name];
  table.replaceChildren();
  if (one === other) {
    sentence.textContent = "Choose two different methods.";
    drawing.replaceChildren();
    return;
  }
  const all = difference(joint, one, other);
  const [, low, high] = all;
  const open = low === undefined || (low <= 0 && high >= 0);
  sentence.textContent =
    `${oneName} − ${otherName}: ${words(all)} d_a, the mean over ${tasks.length} ` +
    `task${tasks.length === 1 ? "" : "s"}. ` +
    (open
      ? "The interval includes 0: they are not distinguished."
      : `The interval excludes 0: ${all[0] > 0 ? oneName : otherName} is better, if this is the only pair you compare.`);
  const points = [];
  for (const task of tasks) {
    const [of_one, of_other] = [task.d_a[one], task.d_a[other]];
    const [mean, bottom, top] = difference(task.differences, one, other);
    points.push({ task: task.name, mean, low: bottom ?? mean, high: top ?? mean });
    const cells = [task.name, words([mean, bottom, top]), String(task.targets.length)];
    const row = table.insertRow();
    cells.forEach((text, place) => {
      const cell = document.createElement(place === 0 ? "th" : "td");
      if (place === 0) cell.scope = "row"; else cell.className = "n";
      cell.textContent = text;
      row.append(cell);
    });
    task.targets.forEach((target, place) => {
      if (of_one[place] === null || of_other[place] === null) return;
      const value = of_one[place] - of_other[place];
      points.push({ task: task.name, target, difference: value, first: of_one[place], second: of_other[place] });
    });
  }
  draw(points, tasks.length);
  const address = new URLSearchParams({ track: board().name, first: oneName, second: otherName });
  history.replaceState(null, "", `#${address}`);
}

function chooseTrack() {
  const names = board().methods.map((method) => method.name);
  fill(first, names);
  fill(second, names);
  if (first.value === second.value) second.selectedIndex = first.selectedIndex === 0 ? 1 : 0;
}

fill(track, boards.map(({ name }) => name));
const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.has("track")) track.value = wanted.get("track");
if (track.selectedIndex < 0) track.selectedIndex = 0;
chooseTrack();
for (const [select, name] of [[first, wanted.get("first") ?? "attention"], [second, wanted.get("second") ?? "bias_only"]]) {
  if (Array.from(select.options, (option) => option.value).includes(name)) select.value = name;
}
track.addEventListener("change", () => { chooseTrack(); show(); });
first.addEventListener("change", show);
second.addEventListener("change", show);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("comparison").hidden = false;
drawing.hidden = false;
show();
