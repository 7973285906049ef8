// The page of `mslab serve`: accepts images, sends them to /predict one after the other, and shows the answers.
// Names of files and classes are untrusted text: they pass through plainText() and textContent, and never become HTML.

const TEXTS = {
  en: {
    title: "What does the network see?",
    about: (count, size, source, task) =>
      `${source}: ${count} ${{ keypoints: "key points", multilabel: "tags" }[task] ?? "classes"}, ` +
      `images of ${size} × ${size} pixels. Nothing leaves this server.`,
    found: { detect: "Objects, the surest first", segment: "Share of the pixels", keypoints: "Key points and their scores",
      multilabel: "Probability of each tag" },
    drawn: "what the network found",
    nothing_found: "Nothing was found.",
    counted: { detect: (n) => `${n} object${n === 1 ? "" : "s"}`, segment: (n) => `${n} class${n === 1 ? "" : "es"}`,
      keypoints: (n) => `${n} object${n === 1 ? "" : "s"}`, multilabel: (n) => `${n} tag${n === 1 ? "" : "s"}` },
    where: ([x, y]) => `x ${x.toFixed(0)}, y ${y.toFixed(0)}`,
    given: "given",
    more_rows: (count) => `${count} more rows`,
    noHeat: "No heat maps: a .mindir or .onnx file contains no layers. Serve a run or a .ckpt file to see them.",
    give: "Images",
    drop: "Drop images here, choose files, or take a picture.",
    choose: "Choose files",
    camera: "Use the camera",
    still: "Take the picture",
    off: "Camera off",
    clear: "Clear the page",
    picture: "camera",
    image: "the image",
    noPreview: "This browser does not show images of this format.",
    heat: (name) => `Grad-CAM: the brighter and warmer, the stronger the evidence for ${name}`,
    probabilities: "Probability of each class",
    more: (count) => `${count} more classes`,
    looking: (left) => (left > 1 ? `Looking; ${left} images to go …` : "Looking …"),
    done: (file, name, probability) => `${file}: ${name}, ${probability}`,
    failed: (reason) => `This image cannot be used. ${reason}`,
    large: (limit) => `It is larger than ${limit} MiB.`,
    nothing: "No file received.",
    gone: "The server does not answer. Is mslab serve still running?",
    other: (code) =>
      `Something between this page and mslab serve answered, with status ${code}: a proxy with a limit of its own ` +
      "(413), without a connection to mslab serve (502, 504), or one that wants you to log in again.",
    busy: "The server is busy; the next try is in a moment …",
    noCamera:
      "The camera cannot be used: it is missing, in use, or not allowed. Browsers require http://127.0.0.1 or https.",
    on: "The camera is on.",
  },
  zh: {
    title: "网络看到了什么？",
    about: (count, size, source, task) =>
      `${source}：${count} 个${{ keypoints: "关键点", multilabel: "标签" }[task] ?? "类别"}，` +
      `图像 ${size} × ${size} 像素。图像不会离开本服务器。`,
    found: { detect: "目标，最确定的在前", segment: "像素占比", keypoints: "关键点及其得分", multilabel: "各标签的概率" },
    drawn: "网络找到的内容",
    nothing_found: "没有找到任何内容。",
    counted: { detect: (n) => `${n} 个目标`, segment: (n) => `${n} 个类别`, keypoints: (n) => `${n} 个目标`,
      multilabel: (n) => `${n} 个标签` },
    where: ([x, y]) => `x ${x.toFixed(0)}，y ${y.toFixed(0)}`,
    given: "有",
    more_rows: (count) => `另外 ${count} 行`,
    noHeat: "没有热力图：.mindir 或 .onnx 文件只有计算图，不含各层。训练目录或 .ckpt 文件才有。",
    give: "图像",
    drop: "把图像拖到这里，或选择文件，或拍照。",
    choose: "选择文件",
    camera: "使用摄像头",
    still: "拍照",
    off: "关闭摄像头",
    clear: "清空页面",
    picture: "摄像头",
    image: "图像",
    noPreview: "浏览器不能显示这种格式的图像。",
    heat: (name) => `网络关注的位置：越亮越暖，越支持 ${name}（Grad-CAM）`,
    probabilities: "各类别的概率",
    more: (count) => `另外 ${count} 个类别`,
    looking: (left) => (left > 1 ? `识别中，还有 ${left} 张 …` : "识别中 …"),
    done: (file, name, probability) => `${file}：${name}，${probability}`,
    failed: (reason) => `不能使用。${reason}`,
    large: (limit) => `文件超过 ${limit} MiB。`,
    nothing: "其中没有文件。",
    gone: "服务器没有回应。mslab serve 还在运行吗？",
    other: (code) =>
      `回应来自本页面与 mslab serve 之间的代理，状态码 ${code}：可能是代理自己的上限（413），` +
      "代理连不上 mslab serve（502、504），或需要重新登录。",
    busy: "服务器正忙，稍后重试 …",
    noCamera: "不能使用摄像头：没有摄像头、正被占用或未获允许。浏览器要求 http://127.0.0.1 或 https。",
    on: "摄像头已打开。",
  },
};
const FIRST = 10; // classes in the first table; the rest are in a collapsed one

const lang = (new URLSearchParams(location.search).get("lang") ?? navigator.language).startsWith("zh") ? "zh" : "en";
const texts = TEXTS[lang];
const at = (id) => document.getElementById(id);
const status = (text) => (at("status").textContent = text);


// The JSON of an answer; addresses are relative to the page, so that they work behind a proxy. Throws an Error with the
// text for the user, and `wait`, seconds, if the server has no place now.
async function load(path, options) {
  let response, content;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(texts.gone);
  }
  try {
    content = await response.json();
  } catch {
    throw new Error(texts.other(response.status)); // mslab serve sends nothing but JSON
  }
  if (response.ok) return content;
  const error = new Error(`${content.error} ${content.fix}`);
  if (response.status === 503) error.wait = Number(response.headers.get("Retry-After")) || 2;
  throw error;
}
const about = load("about");

const INDIC = ["Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym", "Sinh"];
const JOINED = new RegExp( // joiners that Arabic and Persian, Indic scripts and emoji need
  `(?<=[\\p{sc=Arab}\\p{sc=Syrc}]\\p{Mn}*|[${INDIC.map((name) => `\\p{sc=${name}}`).join("")}])[\u200c\u200d]` +
    "|(?<=[\\p{ExtPict}\\p{EMod}\\ufe0f])\u200d(?=\\p{ExtPict})",
  "gu",
);
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]/gu;

// One readable line: what hides or turns text is escaped, the middle of a long text is cut.
function plainText(text, limit = 60) {
  const places = new Set([...text.matchAll(JOINED)].map((match) => match.index));
  const escaped = (c, place) => (places.has(place) ? c : `\\u{${c.codePointAt(0).toString(16)}}`);
  const characters = [...text.replace(HIDDEN, escaped)];
  const half = limit / 2;
  if (characters.length <= limit) return characters.join("");
  return `${characters.slice(0, half).join("")}…${characters.slice(1 - half).join("")}`;
}

// An element: element("td", {className: "number"}, "text", child, …)
function element(name, properties, ...content) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...content);
  return node;
}

const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

function figure(source, alt, text, className = "") {
  const caption = element("figcaption", {}, text);
  const picture = element("img", { src: source, alt, className });
  picture.onerror = () => picture.replaceWith(element("p", {}, texts.noPreview));
  return element("figure", {}, picture, caption);
}

// Rows of [name, number from 0 to 1, whether it is bold, text beside it].
function table(caption, entries, { more = texts.more_rows, shown = percent } = {}) {
  const row = ([name, number, bold, text = ""]) => {
    const bar = element("div", {});
    bar.style.width = `${100 * Math.min(1, Math.max(0, number))}%`;
    return element(
      "tr",
      { className: bold ? "first" : "" },
      element("th", { scope: "row", dir: "auto" }, plainText(name), text && ` (${text})`),
      element("td", { className: "number" }, shown(number)),
      element("td", { className: "bar", ariaHidden: "true" }, bar),
    );
  };
  const rows = entries.map(row);
  const parts = [element("table", {}, element("caption", {}, caption), ...rows.slice(0, FIRST))];
  if (rows.length > FIRST) {
    const rest = element("table", {}, ...rows.slice(FIRST));
    parts.push(element("details", {}, element("summary", {}, more(rows.length - FIRST)), rest));
  }
  return parts;
}

function probabilities(answer) {
  const entries = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  return table(texts.probabilities, entries.map(([name, p], index) => [name, p, index === 0]), { more: texts.more });
}

// The rows of a network of a task, by its name.
const ROWS = {
  detect: (answer) => answer.objects.map((one) => [one.class, one.score, false]),
  segment: (answer) => answer.classes.map((one) => [one.class, one.share, false]),
  keypoints: (answer) =>
    answer.objects.flatMap((one) =>
      Object.entries(one.points).map(([name, point]) => [name, point[2], false, texts.where(point)]),
    ),
  multilabel: (answer) => {
    const given = new Set(answer.tags.map((one) => one.tag));
    return Object.entries(answer.probabilities)
      .sort((a, b) => b[1] - a[1])
      .map(([name, p]) => [name, p, given.has(name), given.has(name) ? texts.given : ""]);
  },
};
// The score of a key point is the height of a map, and may exceed 1.
const found = (task, answer) =>
  table(texts.found[task], ROWS[task](answer), task === "keypoints" ? { shown: (score) => score.toFixed(2) } : {});
const count = (answer) => (answer.objects ?? answer.classes ?? answer.tags).length;

function card(file, answer, task) {
  const name = plainText(file.name || texts.picture);
  const article = element("article", {}, element("h2", { dir: "auto" }, name));
  if (answer.error) {
    article.append(element("p", { className: "error" }, `✗ ${texts.failed(plainText(answer.error, 200))}`));
  } else {
    const pictures = element("div", { className: "pictures" });
    pictures.append(figure(URL.createObjectURL(file), name, texts.image));
    if (answer.heat) {
      const text = texts.heat(plainText(answer.class));
      pictures.append(figure(`data:image/jpeg;base64,${answer.heat}`, text, text, "heat"));
    }
    if (answer.picture) {
      pictures.append(figure(`data:image/jpeg;base64,${answer.picture}`, texts.drawn, texts.drawn, "drawn"));
    }
    const rows = task === "classify" ? probabilities(answer) : found(task, answer);
    const empty = task !== "classify" && count(answer) === 0 ? [element("p", {}, texts.nothing_found)] : [];
    article.append(pictures, ...empty, ...(empty.length && task !== "multilabel" ? [] : rows));
  }
  at("results").prepend(article);
  at("clear").hidden = false;
  if (answer.error) return `${name}: ${texts.failed(plainText(answer.error, 200))}`;
  if (task !== "classify") return `${name}: ${texts.counted[task](count(answer))}`;
  return texts.done(name, plainText(answer.class), percent(answer.probability));
}

const TRIES = 30; // while the server has no place for a request

// The body is the image only: its file name is not sent.
async function ask(file) {
  try {
    const { limits, task } = await about;
    const limit = limits.bytes;
    if (file.size > limit) return { error: texts.large(limit >> 20) };
    const headers = { "Content-Type": "application/octet-stream", "Accept-Language": lang };
    for (let left = TRIES; ; left -= 1) {
      try {
        return (await load(`predict?${task === "classify" ? "heat" : "draw"}=1`, { method: "POST", headers, body: file })).images[0];
      } catch (error) {
        if (!error.wait || left <= 1) throw error;
        status(texts.busy);
        await new Promise((resolve) => setTimeout(resolve, 1000 * error.wait));
      }
    }
  } catch (error) {
    return { error: error.message };
  }
}

let queue = Promise.resolve(); // one after the other, as the server processes them
let left = 0;

function take(files) {
  if (files.length === 0) status(texts.nothing);
  left += files.length;
  for (const file of files) {
    queue = queue.then(async () => {
      status(texts.looking(left));
      const answer = await ask(file);
      const task = answer.error ? "" : (await about).task;
      const text = card(file, answer, task);
      left -= 1;
      status(left ? texts.looking(left) : text);
    });
  }
}

// --- input of images -------------------------------------------------------------------------------------------------

at("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = ""; // the same file may be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // otherwise the browser would leave the page and open the file
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}

function cameraOff() {
  for (const track of at("video").srcObject?.getTracks() ?? []) track.stop();
  at("video").srcObject = null;
  at("live").hidden = true;
  at("camera").hidden = false;
}

at("camera").addEventListener("click", async () => {
  try {
    at("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await at("video").play(); // from here on the camera delivers images
    at("live").hidden = false;
    at("camera").hidden = true;
    at("still").focus();
    status(texts.on);
  } catch {
    cameraOff();
    status(texts.noCamera); // mediaDevices itself is missing if the page is not from this machine
  }
});
at("still").addEventListener("click", () => {
  const video = at("video");
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => take(blob ? [blob] : []), "image/jpeg", 0.95);
});
at("off").addEventListener("click", () => {
  cameraOff();
  at("camera").focus();
});
at("clear").addEventListener("click", () => {
  for (const picture of at("results").querySelectorAll("img")) URL.revokeObjectURL(picture.src);
  at("results").replaceChildren();
  at("clear").hidden = true;
  at("files").focus();
});

// --- texts and facts about the network -------------------------------------------------------------------------------

document.documentElement.lang = lang === "zh" ? "zh-Hans" : "en";
for (const node of document.querySelectorAll("[data-text]")) node.textContent = texts[node.dataset.text];
about.then(
  (served) => {
    at("about").textContent = texts.about(
      served.class_names.length,
      served.image_size,
      plainText(served.source),
      served.task,
    );
    at("no-heat").hidden = served.heat_maps || served.task !== "classify";
  },
  (error) => status(error.message),
);
