"""The server's refusals in Chinese, by HTTP status, with {names} for what is inserted: see language.

A client gets them if its Accept-Language asks for Chinese, as the page and a browser do; scripts get English.
"""

from collections.abc import Sequence
from typing import Any

from mslab.check.zh import MESSAGES
from mslab.config.language import translated

# fmt: off
REFUSALS: dict[int, dict[str, str]] = {
    400: {
        "The request contains no image.": "请求中没有图像。",
        "The form cannot be read: {reason}": "表单无法读取：{reason}",
        "The form contains no image, or a part that is not one.": "表单中没有图像，或有不是图像的部分。",
    },
    403: {
        "The Host header of this request does not name this server.": "请求的 Host 头指的不是本服务器。",
        "This request comes from a page of another site.": "请求来自其他网站的页面。",
        "a request from this server's page, from a site of --allow-origin, or from a script, without an Origin header":
            "来自本服务器页面或 --allow-origin 所列网站的请求，或脚本发出的、不带 Origin 头的请求",
        "open the address that mslab serve printed; if it names a proxy in front of mslab serve: {command}, or http://, as the browser shows it":
            "打开 mslab serve 显示的地址；如果它是 mslab serve 前面的代理：{command}，或 http://，以浏览器显示的为准",
        "open the address that mslab serve printed; if this page is mslab serve's own, behind a proxy: {command}":
            "打开 mslab serve 显示的地址；如果这是代理后面 mslab serve 自己的页面：{command}",
        "open the address that mslab serve printed": "打开 mslab serve 显示的地址",
    },
    404: {
        "No such page.": "没有这个页面。",
        "start at /; if a proxy in front passes {prefix} on: {command}": "从 / 开始；如果前面的代理会传递 {prefix}：{command}",
        "start at /": "从 / 开始",
    },
    405: {"{path} does not allow this method.": "{path} 不允许这种方法。", "use {method} for {path}": "对 {path} 使用 {method}"},
    408: {
        "The request was not complete after {seconds} s.": "{seconds} 秒后请求仍不完整。",
        "the complete request within {seconds} s": "在 {seconds} 秒内发完请求",
        "send fewer or smaller images": "发送更少或更小的图像",
    },
    413: {
        "Image {n} of {m} has more than {pixels} pixels.": "{m} 张图像中的第 {n} 张超过 {pixels} 像素。",
        "images of at most {pixels} pixels": "图像至多 {pixels} 像素",
        "make it smaller; the network uses {width} x {height} pixels": "缩小图像；网络使用 {width} × {height} 像素",
        "The request contains {n} images.": "请求中有 {n} 张图像。",
        "at most {size} MiB for all images together": "所有图像合计至多 {size} MiB",
        "send them in several requests": "分几次请求发送",
        "The request is larger than {size} MiB.": "请求超过 {size} MiB。",
        "send fewer or smaller images": "发送更少或更小的图像",
        "at most {n}": "至多 {n} 张",
    },
    500: {
        "The request failed: internal error.": "请求失败：内部错误。",
        "an answer": "一个回答",
        "see the output of mslab serve": "查看 mslab serve 的输出",
    },
    503: {
        "{n} requests are running, {own} of them from your address.": "有 {n} 个请求正在处理，其中 {own} 个来自你的地址。",
        "at most {n} at a time, {own} from one address": "同时至多 {n} 个，每个地址至多 {own} 个",
        "The requests that arrive are larger than {size} MiB together.": "正在到达的请求合计超过 {size} MiB。",
        "less at a time, or faster": "每次更少，或更快",
        "try again soon": "请稍后再试",
        "The server cannot decode images now: {reason}.": "服务器现在不能解码图像：{reason}。",
        "space for temporary files, and the right to start a process": "存放临时文件的空间，以及启动进程的权限",
        "free space, or stop other programs; then try again": "腾出空间，或停止其他程序；然后重试",
        "The server is stopping.": "服务器正在停止。",
        "a running server": "运行中的服务器",
        "start mslab serve again": "重新启动 mslab serve",
    },
}
FORM = {
    "the image as the request body, or a form in which every part is a file named image": "图像作为请求体，或每一部分都是名为 image 的文件的表单",
}
IMAGES = {  # why one image has no answer, beside the check's reasons
    "(not one of {formats}, but {kind})": "（不是 {formats} 之一，而是 {kind}）",
    "(not one of {formats})": "（不是 {formats} 之一）",
    "(loading the images of this request took more than {seconds} s)": "（读取这个请求的图像超过 {seconds} 秒）",
}
# fmt: on


def refusal(content: dict[str, str], status: int, lang: str) -> dict[str, str]:
    """A refusal's texts in this language."""
    return {key: translated(text, REFUSALS.get(status, {}), FORM, lang=lang) for key, text in content.items()}


def answers(images: Sequence[dict[str, Any]], lang: str) -> list[dict[str, Any]]:
    """The answers about images; those without one have their reason, "CODE: TEXT", in this language."""
    return [image | {"error": reason(image["error"], lang)} if image.get("error") else image for image in images]


def reason(text: str, lang: str) -> str:
    # reason("zero-byte: the file is empty", "zh") -> "zero-byte: 文件是空的"
    code, _, problem = text.partition(": ")
    shown = translated(f"({problem})", IMAGES, MESSAGES.get(code, {}), lang=lang)
    return text if shown == f"({problem})" else f"{code}: {shown.strip('（）')}"
