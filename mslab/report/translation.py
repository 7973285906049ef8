"""The report's texts in Chinese. Keys are the English texts, exactly as in the templates and in the Python modules."""

from collections.abc import Callable, Mapping

CHINESE = {
    "train": "从头训练",
    "transfer": "迁移学习",
    "incremental": "增量训练",
    "running": "运行中",
    "done": "已完成",
    "failed": "失败",
    "interrupted": "已中断",
    "paused": "已暂停",
    "epoch": "轮次",
    "best": "最佳",
    "ended early": "提前结束",
    "training": "训练",
    "validation": "验证",
    "learning rate": "学习率",
    "Loss": "损失",
    "Accuracy": "准确率",
    "Learning rate at the end of the epoch": "每轮结束时的学习率",
    "{part} unfrozen": "解冻 {part}",
    "{right} of {images} validation images are right: accuracy {accuracy} (95 % interval {low} to {high}).": (
        "{images} 张验证图像中 {right} 张判断正确：准确率 {accuracy}（95 % 置信区间 {low} 至 {high}）。"
    ),
    "A linear model of 8×8 thumbnails has {linear}.": "8×8 缩略图上的线性模型为 {linear}。",
    "The network does not beat it.": "网络没有胜过它。",
    "No epoch was measured yet.": "还没有评估过任何一轮。",
    "Status: {status}; {done} of {epochs} epochs.": "状态：{status}；完成 {done}/{epochs} 轮。",
    "Best epoch: {best}.": "最佳轮次：{best}。",
    "Ended by": "结束原因",
    "Contents": "目录",
    "Warnings": "警告",
    "What looked wrong while it trained": "训练中的异常",
    "Learning curves": "学习曲线",
    "Move over a chart to read the values of an epoch.": "将指针移到图上可读取该轮的数值。",
    "The numbers of every epoch": "每一轮的数值",
    "No epoch was completed yet.": "还没有完成任何一轮。",
    "Confusion matrix": "混淆矩阵",
    "Row: the true class. Column: what the network took it for. Blue on the diagonal is right.": (
        "行：真实类别。列：网络判断的类别。对角线上的蓝色为正确。"
    ),
    "A cell opens the images behind it.": "点击单元格可查看其中的图像。",
    "There are too many classes for a table; these are the pairs most often confused.": (
        "类别太多，无法列成表格；以下是最常混淆的类别对。"
    ),
    "true class": "真实类别",
    "taken for": "被判为",
    "images": "图像数",
    "validation images": "验证图像",
    "training images": "训练图像",
    "true class {true}, taken for {taken}: {n} images": "真实类别 {true}，被判为 {taken}：{n} 张图像",
    "close": "关闭",
    "… and {n} more": "……另有 {n} 项",
    "Class by class": "各类别",
    "Precision: of the images taken for the class, how many are. Recall: of its images, how many were found. "
    "In brackets the 95 % interval.": (
        "精确率：被判为该类的图像中确属该类的比例。召回率：该类图像中被找出的比例。括号内为 95 % 置信区间。"
    ),
    "class": "类别",
    "precision": "精确率",
    "recall": "召回率",
    "F1": "F1",
    "ROC and precision-recall": "ROC 与精确率-召回率",
    "Each class against all others. Left: share found over share falsely taken (ROC; the diagonal is guessing). "
    "Right: precision over recall. AUC and average precision are 1 where the network is perfect.": (
        "每个类别对其余所有类别。左：真正率对假正率（ROC；对角线为随机猜测）。右：精确率对召回率。"
        "网络完美时 AUC 与平均精确率均为 1。"
    ),
    "The {n} classes with the lowest average precision are shown.": "仅显示平均精确率最低的 {n} 个类别。",
    "average precision": "平均精确率",
    "precision over recall": "精确率对召回率",
    "Calibration": "校准",
    "How far its certainty can be trusted": "其置信度有多可信",
    "Bars: accuracy of the images of which the network was so certain; on the diagonal, certainty is accuracy. "
    "Below it, the network is too sure of itself. Expected calibration error: {ece}.": (
        "柱：网络具有该置信度的图像的准确率；在对角线上，置信度等于准确率；低于对角线表示网络过于自信。"
        "期望校准误差：{ece}。"
    ),
    "accuracy over certainty": "准确率对置信度",
    "certainty": "置信度",
    "accuracy": "准确率",
    "The surest mistakes": "最自信的错误",
    "Wrong with the highest probability first. Heat maps (Grad-CAM) show where the network saw what spoke for a class: "
    "bright is much.": "误判，概率最高者在前。热力图（Grad-CAM）显示网络在何处看到支持某类别的内容：越亮越多。",
    "Right, but least certain": "正确但最不确定",
    "The lowest probability of the true class first.": "真实类别概率最低者在前。",
    "There are none.": "没有。",
    "the image": "图像",
    "as the network saw it": "网络看到的图像",
    "as seen": "网络所见",
    "heat map of what spoke for {name}": "支持 {name} 的热力图",
    "for {name}": "支持 {name}",
    "Map of the features": "特征分布图",
    "Each mark is a validation image; images whose features are alike lie together ({method}). "
    "The axes have no unit.": ("每个标记是一张验证图像；特征相似的图像彼此靠近（{method}）。坐标轴没有单位。"),
    "Not all images are drawn.": "并未画出全部图像。",
    "The backbone was frozen: before and after transfer its features are the same.": (
        "骨干网络被冻结：迁移前后特征相同。"
    ),
    "What the run began from is not shown: its file is not there any more, or only part of it was taken.": (
        "未显示迁移前的特征：起始权重文件已不存在，或只加载了其中一部分。"
    ),
    "nearest neighbour of the same class: {share}": "最近邻为同一类别：{share}",
    "after training": "训练后",
    "before transfer": "迁移前",
    "Labels that may be wrong": "可能有误的标签",
    "Found by mslab suspects: networks that never saw these images agree on another class. They are for a person to "
    "look at; nothing was changed.": (
        "由 mslab suspects 找出：未见过这些图像的模型认为它们属于其他类别。请人工查看；没有改动任何内容。"
    ),
    "Data": "数据",
    "images of each class, in the order of the class indices": "各类别的图像数，按类别序号排列",
    "index": "序号",
    "fingerprint": "指纹",
    "Data check": "数据检查",
    "Nothing found.": "没有发现问题。",
    "kind": "类型",
    "where": "位置",
    "what": "内容",
    "fix": "处理",
    "Network": "网络",
    "Trained from random weights.": "从随机权重开始训练。",
    "Begun from {file} (sha256 {sha}…).": "从 {file} 开始（sha256 {sha}…）。",
    "frozen": "冻结",
    "stages (blocks, width, stride)": "阶段（块数、宽度、步幅）",
    "image size": "图像尺寸",
    "device": "设备",
    "To repeat this run": "重复本次运行",
    "A click takes the whole line.": "单击可选中整行。",
    "Settings that are not the default": "非默认设置",
    "default": "默认",
    "What needs the images or the network is left out.": "需要图像或网络的部分已省略。",
    "runs": "次运行",
    "{n} runs side by side": "{n} 次运行对比",
    "The runs were not measured on the same images: their accuracies do not compare.": (
        "这些运行不是在相同图像上评估的：准确率不可比较。"
    ),
    "Figures": "指标",
    "The highest validation accuracy first; in brackets the 95 % interval: runs whose intervals overlap may differ by "
    "chance.": "验证准确率最高者在前；括号内为 95 % 置信区间：区间重叠的运行之间的差异可能只是偶然。",
    "run": "运行",
    "validation accuracy": "验证准确率",
    "Validation accuracy": "验证准确率",
    "Validation loss": "验证损失",
    "Training loss": "训练损失",
    "linear model": "线性模型",
    "best epoch": "最佳轮次",
    "seconds": "秒",
    "status": "状态",
    "Settings that differ": "不同的设置",
    "None: the runs have the same settings.": "没有：这些运行的设置相同。",
    "F1 of each class.": "各类别的 F1。",
}


def translator(lang: str, chinese: Mapping[str, str] = CHINESE) -> Callable[[str], str]:
    """English text -> text in this language. Messages of the checker and of MindSpore stay English."""
    return (lambda text: chinese[text]) if lang == "zh" else (lambda text: text)
