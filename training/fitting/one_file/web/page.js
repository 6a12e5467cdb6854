import { Selector } from "./zooselect.js";

const MOST_SHOWN = 200; // answers that stay in the list
const FRAME_MS = 100; // least time between two answers to the camera

const at = (id) => document.getElementById(id);
const tally = new Map(); // model → images and milliseconds
let selector = null;
let stream = null;

async function start() {
  try {
    selector = await Selector.load();
  } catch (error) {
    at("status").textContent = "The models could not be loaded.";
    complain(error);
    return;
  }
  for (const model of selector.models) {
    tally.set(model, { images: 0, milliseconds: 0 });
  }
  const proven = selector.certificate
    ? `proven on ${selector.certificate.samples} samples with confidence ${selector.certificate.confidence}`
    : "not proven";
  at("status").textContent =
    `Ready: ${selector.models.length} models, ${selector.classes.length} classes; ` +
    `${selector.constraint}, ${proven}.`;
  at("files").disabled = false;
  at("camera").disabled = !navigator.mediaDevices?.getUserMedia;
  if (at("camera").disabled) {
    at("camera").title = "Browsers give the camera only to pages from https or localhost.";
  }
}

async function answerFiles(files) {
  hush();
  for (const file of files) {
    try {
      const answer = await selector.predict(file);
      note(answer);
      show(answer, file);
    } catch (error) {
      complain(new Error(`${file.name}: ${error.message}`));
    }
  }
}

function note(answer) {
  const row = tally.get(answer.model);
  row.images += 1;
  row.milliseconds += answer.milliseconds;
  const rows = [...tally.values()];
  const images = rows.reduce((sum, one) => sum + one.images, 0);
  const milliseconds = rows.reduce((sum, one) => sum + one.milliseconds, 0);
  at("summary").hidden = false;
  at("count").textContent =
    `${images} ${images === 1 ? "image" : "images"}, ${(milliseconds / images).toFixed(2)} ms in the mean.`;
  at("models").replaceChildren(...[...tally].map(([model, one]) => shareRow(model, one, images)));
}

function shareRow(model, { images, milliseconds }, all) {
  const row = document.createElement("tr");
  const name = cell("th", model);
  name.scope = "row";
  const share = cell("td", "");
  const bar = document.createElement("meter");
  bar.max = 1;
  bar.value = images / all;
  const words = `${((100 * images) / all).toFixed(0)} %`;
  bar.setAttribute("aria-label", `${model}: ${words} of the images`);
  share.append(bar, ` ${words}`);
  const mean = images ? (milliseconds / images).toFixed(2) : "–";
  row.append(name, share, cell("td", String(images), "number"), cell("td", mean, "number"));
  return row;
}

function show(answer, file) {
  const item = document.createElement("li");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.src = URL.createObjectURL(file);
  const words = document.createElement("div");
  const label = document.createElement("strong");
  label.textContent = answer.label;
  const how = document.createElement("span");
  how.textContent = inWords(answer);
  const name = document.createElement("span");
  name.className = "hint";
  name.textContent = file.name;
  words.append(label, how, name);
  item.append(picture, words);
  at("answered").hidden = false;
  at("list").prepend(item);
  while (at("list").children.length > MOST_SHOWN) {
    const last = at("list").lastElementChild;
    URL.revokeObjectURL(last.querySelector("img").src);
    last.remove();
  }
}

function inWords(answer) {
  const sure = answer.probability === null ? "" : `, ${(100 * answer.probability).toFixed(0)} % sure`;
  return `${answer.path.join(" → ")}, ${answer.milliseconds.toFixed(2)} ms${sure}`;
}

function cell(kind, text, style = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = style;
  return made;
}

async function openCamera() {
  hush();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    complain(new Error(`the camera cannot be used: ${error.message}. Allow it for this page, or choose images.`));
    return;
  }
  const video = at("video");
  video.srcObject = stream;
  await video.play();
  at("live").hidden = false;
  at("camera").setAttribute("aria-pressed", "true");
  at("camera").textContent = "Stop the camera";
  while (stream) {
    const next = performance.now() + FRAME_MS;
    try {
      const answer = await selector.predict(video);
      note(answer);
      at("seen").textContent = `${answer.label}: ${inWords(answer)}`;
    } catch (error) {
      complain(error);
      closeCamera();
    }
    await new Promise((done) => setTimeout(done, Math.max(0, next - performance.now())));
  }
}

function closeCamera() {
  for (const track of stream?.getTracks() ?? []) {
    track.stop();
  }
  stream = null;
  at("live").hidden = true;
  at("camera").setAttribute("aria-pressed", "false");
  at("camera").textContent = "Use the camera";
}

function complain(error) {
  at("problem").hidden = false;
  at("problem").textContent = error.message;
}

function hush() {
  at("problem").hidden = true;
}

at("files").addEventListener("change", (event) => answerFiles([...event.target.files]));
at("camera").addEventListener("click", () => (stream ? closeCamera() : openCamera()));
at("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (selector) {
    answerFiles([...event.dataTransfer.files]);
  } else {
    complain(new Error("The models are not loaded. Drop the images again when they are."));
  }
});
start();
