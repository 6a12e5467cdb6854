/**
 * A selector in the browser: the cheapest model that is enough answers each image.
 *
 *     import { Selector } from "./zooselect.js";
 *     const selector = await Selector.load();
 *     const answer = await selector.predict(document.querySelector("img"));
 *     console.log(answer.label, answer.model, answer.milliseconds);
 *
 * Beside this module lie selector.onnx, selector.json and the folder runtime; all come from the same server,
 * and no image leaves the browser.
 */

/** The most pixels of an image, as in Python. */
export const MAX_PIXELS = 64_000_000;

/**
 * The pixels of an image as the models take them: RGB, a byte each, transparency over white.
 *
 * @param {Blob|ImageBitmap|HTMLImageElement|HTMLVideoElement|HTMLCanvasElement|OffscreenCanvas|ImageData} source
 *   A file, or something that can be drawn. The orientation tag of a camera is applied.
 * @returns {Promise<{data: Uint8Array, height: number, width: number}>}
 * @throws {RangeError} When there is no pixel, or there are too many.
 * @throws {DOMException} When a file cannot be decoded as an image.
 */
export async function pixelsOf(source) {
  let shown = source;
  let made = null;
  if (source instanceof Blob) {
    made = await createImageBitmap(source, { colorSpaceConversion: "none" });
    shown = made;
  }
  try {
    const width = shown.videoWidth || shown.naturalWidth || shown.width;
    const height = shown.videoHeight || shown.naturalHeight || shown.height;
    if (!width || !height) {
      throw new RangeError("expected an image of at least one pixel, got none. Wait until it has loaded.");
    }
    if (width * height > MAX_PIXELS) {
      throw new RangeError(
        `expected an image of at most ${MAX_PIXELS} pixels, got ${width} × ${height}. Make it smaller.`,
      );
    }
    const { data } = shown instanceof ImageData ? overWhite(shown) : drawn(shown, width, height);
    const rgb = new Uint8Array(width * height * 3);
    for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
      rgb[to] = data[from];
      rgb[to + 1] = data[from + 1];
      rgb[to + 2] = data[from + 2];
    }
    return { data: rgb, height, width };
  } finally {
    made?.close();
  }
}

/** What a selector answers to one image. */
export class Answer {
  constructor(values) {
    /** @type {string} Name of the most probable class. */
    this.label = values.label;
    /** @type {number} Its place among the selector's classes. */
    this.classIndex = values.classIndex;
    /** @type {Float64Array} Probabilities, in the order of the selector's classes. */
    this.probabilities = values.probabilities;
    /** @type {string} The model that gave the answer. */
    this.model = values.model;
    /** @type {string[]} All models that ran, in order. */
    this.path = values.path;
    /** @type {number|null} Estimate that the answer is right; null where nothing estimates it. */
    this.probability = values.probability;
    /** @type {number} Time of the models and of choosing among them, without reading the image. */
    this.milliseconds = values.milliseconds;
  }
}

/** A selector that was loaded. Images are answered one after the other, whoever asks. */
export class Selector {
  #session;
  #runtime;
  #last = Promise.resolve();

  constructor(session, runtime, facts) {
    this.#session = session;
    this.#runtime = runtime;
    /** @type {string[]} Class names, in the order of the probabilities. */
    this.classes = facts.classes;
    /** @type {string[]} Models in the file. */
    this.models = facts.models;
    /** @type {string} What was asked of the answers, in words. */
    this.constraint = facts.constraint;
    /** @type {object|null} What was proven; null where nothing was. */
    this.certificate = facts.certificate;
  }

  /**
   * Load the selector that lies beside this module, or in another folder.
   *
   * @param {object} [options]
   * @param {string|URL} [options.folder] Where selector.onnx, selector.json and runtime/ are; ends with a slash.
   * @param {number} [options.threads] Threads of one answer. More than one needs a page that is cross-origin
   *   isolated; elsewhere one is used.
   * @returns {Promise<Selector>}
   * @throws {Error} When a file is missing, damaged or of another selector.
   */
  static async load({ folder = new URL("./", import.meta.url), threads = 1 } = {}) {
    const base = new URL(folder, document.baseURI);
    const facts = JSON.parse(new TextDecoder().decode(await fetched(new URL("selector.json", base))));
    if (facts.schema_version !== 1) {
      throw new Error(`selector.json: expected schema version 1, got ${facts.schema_version}. Export it again.`);
    }
    const content = await fetched(new URL(`selector.onnx?${facts.sha256.slice(0, 12)}`, base));
    await check(content, facts);
    const runtime = await import(new URL("runtime/ort.wasm.min.mjs", base).href);
    runtime.env.wasm.wasmPaths = new URL("runtime/", base).href;
    runtime.env.wasm.numThreads = globalThis.crossOriginIsolated ? threads : 1;
    runtime.env.logLevel = "error";
    const session = await runtime.InferenceSession.create(new Uint8Array(content), {
      executionProviders: ["wasm"],
    });
    return new Selector(session, runtime, facts);
  }

  /**
   * Answer one image.
   *
   * @param {Parameters<typeof pixelsOf>[0] | {data: Uint8Array, height: number, width: number}} source
   *   What {@link pixelsOf} takes or returns.
   * @returns {Promise<Answer>}
   * @throws {TypeError|RangeError} When that is no image.
   * @throws {Error} When a model gives no finite answer to it.
   */
  predict(source) {
    const answered = this.#last.then(() => this.#predict(source));
    this.#last = answered.catch(() => undefined);
    return answered;
  }

  /** Give the memory of the models back. */
  async release() {
    await this.#last;
    await this.#session.release();
  }

  async #predict(source) {
    if (source === null || typeof source !== "object") {
      throw new TypeError(`expected an image, a video, a canvas, a file or pixels, got ${source}.`);
    }
    const { data, height, width } = source.data instanceof Uint8Array ? source : await pixelsOf(source);
    if (data.length !== height * width * 3) {
      throw new RangeError(`expected ${height} × ${width} × 3 bytes of pixels, got ${data.length}.`);
    }
    const image = new this.#runtime.Tensor("uint8", data, [height, width, 3]);
    const start = performance.now();
    const found = await this.#session.run({ image });
    const milliseconds = performance.now() - start;
    const probabilities = found.probabilities.data;
    if (!probabilities.every(Number.isFinite)) {
      throw new Error("expected a finite answer, got NaN: nothing can be said of this image.");
    }
    const estimate = Number(found.probability.data[0]);
    return new Answer({
      label: found.label.data[0],
      classIndex: Number(found.class_index.data[0]),
      probabilities,
      model: found.model.data[0],
      path: Array.from(found.path.data),
      probability: Number.isNaN(estimate) ? null : estimate,
      milliseconds,
    });
  }
}

function drawn(shown, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(shown, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

function overWhite(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return drawn(canvas, image.width, image.height);
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`expected ${url.pathname} on the server, got status ${response.status}. Export it again.`);
  }
  return response.arrayBuffer();
}

async function check(content, facts) {
  const wrong = "selector.onnx: expected the file that selector.json describes, got another one. Export again.";
  if (content.byteLength !== facts.size_bytes) {
    throw new Error(wrong);
  }
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    const text = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (text !== facts.sha256) {
      throw new Error(wrong);
    }
  }
}
