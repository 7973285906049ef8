// The page of `mslab serve`: takes images, asks /predict for one after the other, and shows what came back.
// Names of files and classes are text from outside: they pass shown() and textContent, and never become HTML.

const WORDS = {
  en: {
    title: "What does the network see?",
    about: (count, size, source) =>
      `${source}: ${count} classes, images of ${size} × ${size} pixels. Nothing leaves this server.`,
    noHeat: "No heat maps: a .mindir or .onnx file holds a graph without its layers. A run or a .ckpt file has them.",
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
    heat: (name) => `where it looked: the brighter and warmer, the more it spoke for ${name} (Grad-CAM)`,
    probabilities: "Probability of each class",
    more: (count) => `${count} more classes`,
    looking: (left) => (left > 1 ? `Looking; ${left} images to go …` : "Looking …"),
    done: (file, name, share) => `${file}: ${name}, ${share}`,
    failed: (reason) => `It cannot be used. ${reason}`,
    large: (most) => `It has more than ${most} MiB.`,
    nothing: "There was no file in that.",
    gone: "The server does not answer. Is mslab serve still running?",
    noCamera:
      "The camera cannot be used: it is missing, in use, or not allowed. Browsers ask for http://127.0.0.1 or https.",
    on: "The camera is on.",
  },
  zh: {
    title: "网络看到了什么？",
    about: (count, size, source) => `${source}：${count} 个类别，图像 ${size} × ${size} 像素。图像不会离开本服务器。`,
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
    done: (file, name, share) => `${file}：${name}，${share}`,
    failed: (reason) => `不能使用。${reason}`,
    large: (most) => `文件超过 ${most} MiB。`,
    nothing: "其中没有文件。",
    gone: "服务器没有回应。mslab serve 还在运行吗？",
    noCamera: "不能使用摄像头：没有摄像头、正被占用或未获允许。浏览器要求 http://127.0.0.1 或 https。",
    on: "摄像头已打开。",
  },
};
const FIRST = 10; // classes that are shown at once; the rest unfold

const lang = (new URLSearchParams(location.search).get("lang") ?? navigator.language).startsWith("zh") ? "zh" : "en";
const words = WORDS[lang];
const at = (id) => document.getElementById(id);
const status = (text) => (at("status").textContent = text);
const about = fetch("/about").then((response) => response.json());

// One line to read: characters that hide or turn text are spelled out, the middle of a long one is cut.
function shown(text, most = 60) {
  const escaped = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;
  const plain = [...text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, escaped)];
  const half = most / 2;
  return plain.length <= most ? plain.join("") : `${plain.slice(0, half).join("")}…${plain.slice(1 - half).join("")}`;
}

// An element: element("td", {className: "number"}, "text", child, …)
function element(name, properties, ...content) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function figure(source, alt, text, className = "") {
  const caption = element("figcaption", {}, text);
  const picture = element("img", { src: source, alt, className });
  picture.onerror = () => picture.replaceWith(element("p", {}, words.noPreview));
  return element("figure", {}, picture, caption);
}

function table(shares) {
  const row = ([name, share], index) => {
    const bar = element("div", {});
    bar.style.width = `${100 * share}%`;
    return element(
      "tr",
      { className: index === 0 ? "first" : "" },
      element("th", { scope: "row", dir: "auto" }, shown(name)),
      element("td", { className: "number" }, percent(share)),
      element("td", { className: "bar", ariaHidden: "true" }, bar),
    );
  };
  const rows = Object.entries(shares)
    .sort((a, b) => b[1] - a[1])
    .map(row);
  const parts = [element("table", {}, element("caption", {}, words.probabilities), ...rows.slice(0, FIRST))];
  if (rows.length > FIRST) {
    const rest = element("table", {}, ...rows.slice(FIRST));
    parts.push(element("details", {}, element("summary", {}, words.more(rows.length - FIRST)), rest));
  }
  return parts;
}

function card(file, answer) {
  const name = shown(file.name || words.picture);
  const made = element("article", {}, element("h2", { dir: "auto" }, name));
  if (answer.error) {
    made.append(element("p", { className: "error" }, `✗ ${words.failed(shown(answer.error, 200))}`));
  } else {
    const pictures = element("div", { className: "pictures" });
    pictures.append(figure(URL.createObjectURL(file), name, words.image));
    if (answer.heat) {
      const text = words.heat(shown(answer.class));
      pictures.append(figure(`data:image/jpeg;base64,${answer.heat}`, text, text, "heat"));
    }
    made.append(pictures, ...table(answer.probabilities));
  }
  at("results").prepend(made);
  at("clear").hidden = false;
  return answer.error
    ? `${name}: ${words.failed(shown(answer.error, 200))}`
    : words.done(name, shown(answer.class), percent(answer.probability));
}

// The body is the image alone: its name stays here.
async function ask(file) {
  try {
    const most = (await about).limits.bytes;
    if (file.size > most) return { error: words.large(most >> 20) };
    const headers = { "Content-Type": "application/octet-stream" };
    const response = await fetch("/predict?heat=1", { method: "POST", headers, body: file });
    const content = await response.json();
    return response.ok ? content.images[0] : { error: `${content.error} ${content.fix}` };
  } catch {
    return { error: words.gone };
  }
}

let queue = Promise.resolve(); // one after the other: the server answers one at a time anyway
let left = 0;

function take(files) {
  if (files.length === 0) status(words.nothing);
  left += files.length;
  for (const file of files) {
    queue = queue.then(async () => {
      status(words.looking(left));
      const text = card(file, await ask(file));
      left -= 1;
      status(left ? words.looking(left) : text);
    });
  }
}

// --- giving images ---------------------------------------------------------------------------------------------------

at("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = ""; // the same file may be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // else the browser would leave the page and open the file
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
    await at("video").play(); // from here on there is a picture to take
    at("live").hidden = false;
    at("camera").hidden = true;
    at("still").focus();
    status(words.on);
  } catch {
    cameraOff();
    status(words.noCamera); // mediaDevices itself is missing where the page is not from this machine
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

// --- what is served --------------------------------------------------------------------------------------------------

document.documentElement.lang = lang === "zh" ? "zh-Hans" : "en";
for (const each of document.querySelectorAll("[data-word]")) each.textContent = words[each.dataset.word];
about.then((served) => {
  at("about").textContent = words.about(served.class_names.length, served.image_size, shown(served.source));
  at("no-heat").hidden = served.heat_maps;
});
