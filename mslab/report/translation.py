"""The report's texts in Chinese. Keys are the English texts, exactly as in the templates and in the Python modules."""

from collections.abc import Callable, Mapping

CHINESE = {
    "from scratch": "从头训练",
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
    "{right} of {images} validation images are classified correctly: accuracy {accuracy} (95 % interval {low} to "
    "{high}).": ("{images} 张验证图像中 {right} 张判断正确：准确率 {accuracy}（95 % 置信区间 {low} 至 {high}）。"),
    "A linear model of 8×8 thumbnails has {linear}.": "8×8 缩略图上的线性模型为 {linear}。",
    "The network is not better.": "网络没有胜过它。",
    "No epoch has been measured yet.": "还没有评估过任何一轮。",
    "Status: {status}; {done} of {epochs} epochs.": "状态：{status}；完成 {done}/{epochs} 轮。",
    "Best epoch: {best}.": "最佳轮次：{best}。",
    "It was chosen by {measure} (best_by).": "它由 {measure} 选出（best_by）。",
    "{measure} would have chosen epoch {epoch}.": "{measure} 会选第 {epoch} 轮。",
    "The runs in the order of {measure} (best_by); in brackets the 95 % interval of the accuracy.": (
        "按 {measure} 排序（best_by）；括号内为准确率的 95 % 置信区间。"
    ),
    "Ended by": "结束原因",
    "Contents": "目录",
    "Warnings": "警告",
    "Problems during training": "训练中的异常",
    "Learning curves": "学习曲线",
    "Point at a chart to read the values of an epoch.": "将指针移到图上可读取该轮的数值。",
    "Values of every epoch": "每一轮的数值",
    "No epoch has been completed yet.": "还没有完成任何一轮。",
    "Confusion matrix": "混淆矩阵",
    "Row: true class. Column: predicted class. Blue cells on the diagonal are correct.": (
        "行：真实类别。列：网络判断的类别。对角线上的蓝色为正确。"
    ),
    "Click a cell to see its images.": "点击单元格可查看其中的图像。",
    "There are too many classes for a table; these are the pairs most often confused.": (
        "类别太多，无法列成表格；以下是最常混淆的类别对。"
    ),
    "true class": "真实类别",
    "predicted as": "被判为",
    "taken for": "被判为",  # of the grading pages
    "images": "图像数",
    "validation images": "验证图像",
    "training images": "训练图像",
    "true class {true}, predicted class {predicted}: {n} images": "真实类别 {true}，被判为 {predicted}：{n} 张图像",
    "close": "关闭",
    "… and {n} more": "……另有 {n} 项",
    "Figures per class": "各类别",
    "Precision: the fraction of the images predicted as the class that belong to it. Recall: the fraction of the "
    "class's images that are predicted as the class. In brackets: the 95 % interval.": (
        "精确率：被判为该类的图像中确属该类的比例。召回率：该类图像中被找出的比例。括号内为 95 % 置信区间。"
    ),
    "class": "类别",
    "precision": "精确率",
    "recall": "召回率",
    "F1": "F1",
    "ROC and precision-recall": "ROC 与精确率-召回率",
    "Each class against all others. Left: true positive rate over false positive rate (ROC; the diagonal is "
    "guessing). Right: precision over recall. AUC and average precision are 1 for a perfect network.": (
        "每个类别对其余所有类别。左：真正率对假正率（ROC；对角线为随机猜测）。右：精确率对召回率。"
        "网络完美时 AUC 与平均精确率均为 1。"
    ),
    "The {n} classes with the lowest average precision are shown.": "仅显示平均精确率最低的 {n} 个类别。",
    "average precision": "平均精确率",
    "precision over recall": "精确率对召回率",
    "What a higher recall costs": "提高召回率的代价",
    "For whoever must not miss a class: with a threshold, a class is answered wherever its probability reaches it. "
    "Each row: at least this recall of the class, the threshold, and how many images of other classes are then taken "
    "for it, measured on these images. Another threshold is measured by:": (
        "适用于不能漏掉某一类的场合：设定阈值后，凡该类概率达到阈值的图像都判为该类。每行：该类至少达到的召回率、"
        "阈值，以及此时被误判为该类的其他图像数，均在这些图像上测得。测量其他阈值："
    ),
    "threshold": "阈值",
    "false alarms": "误报",
    "false alarms over recall": "误报率对召回率",
    "Calibration": "校准",
    "How reliable the network's confidence is": "其置信度有多可信",
    "All probabilities on this page are calibrated: logits are divided by the temperature {value}, which was fitted on "
    "these images. Without it, the error is {ece}.": (
        "本页所有概率都经过校准：logits 除以温度 {value}，它由这些图像拟合得到。未校准时误差为 {ece}。"
    ),
    "Bars: accuracy of the images with this confidence. On the diagonal, confidence equals accuracy; below it, "
    "the network is overconfident. Expected calibration error: {ece}.": (
        "柱：网络具有该置信度的图像的准确率；在对角线上，置信度等于准确率；低于对角线表示网络过于自信。"
        "期望校准误差：{ece}。"
    ),
    "accuracy over confidence": "准确率对置信度",
    "confidence": "置信度",
    "accuracy": "准确率",
    "The most confident mistakes": "最自信的错误",
    "Mistakes with the highest probability first. Heat maps (Grad-CAM) show which parts of the image support a "
    "class: the brighter, the more.": (
        "误判，概率最高者在前。热力图（Grad-CAM）显示图像的哪些部分支持某类别：越亮越多。"
    ),
    "Mistakes with the highest probability first. This network has no feature map to draw heat maps from.": (
        "误判，概率最高者在前。这个网络没有特征图，因此没有热力图。"
    ),
    "Correct, but least confident": "正确但最不确定",
    "Images with the lowest probability of the true class first.": "真实类别概率最低者在前。",
    "There are none.": "没有。",
    "the image": "图像",
    "the image as the network's input": "网络看到的图像",
    "network input": "网络的输入",
    "heat map for {name}": "支持 {name} 的热力图",
    "for {name}": "支持 {name}",
    "features for training computed by": "训练所用特征的计算引擎",
    "predictions on this page by": "本页预测所用的引擎",
    "Map of the features": "特征分布图",
    "Each mark is a validation image; images with similar features are close together ({method}). The axes have "
    "no unit.": ("每个标记是一张验证图像；特征相似的图像彼此靠近（{method}）。坐标轴没有单位。"),
    "Not all images are drawn.": "并未画出全部图像。",
    "The backbone was frozen: its features are the same before and after transfer.": (
        "骨干网络被冻结：迁移前后特征相同。"
    ),
    "Features before transfer are missing: the parent's file is gone, or only part of it was loaded.": (
        "未显示迁移前的特征：起始权重文件已不存在，或只加载了其中一部分。"
    ),
    "images whose nearest neighbour has the same class: {fraction}": "最近邻为同一类别：{fraction}",
    "after training": "训练后",
    "before transfer": "迁移前",
    "Labels that may be wrong": "可能有误的标签",
    "Found by mslab suspects: classifiers that were fitted without these images predict another class. Review "
    "the images yourself; nothing was changed.": (
        "由 mslab suspects 找出：未用这些图像拟合的分类器认为它们属于其他类别。请人工查看；没有改动任何内容。"
    ),
    "Data": "数据",
    "images per class, in the order of the class indices": "各类别的图像数，按类别序号排列",
    "index": "序号",
    "fingerprint": "指纹",
    "Data check": "数据检查",
    "No problems found.": "没有发现问题。",
    "kind": "类型",
    "location": "位置",
    "message": "内容",
    "fix": "处理",
    "Network": "网络",
    "Trained from random weights.": "从随机权重开始训练。",
    "Started from {file} (sha256 {sha}…).": "从 {file} 开始（sha256 {sha}…）。",
    "frozen": "冻结",
    "stages (blocks, width, stride)": "阶段（块数、宽度、步幅）",
    "image size": "图像尺寸",
    "device": "设备",
    "To repeat this run": "重复本次运行",
    "A click selects the complete line.": "单击可选中整行。",
    "Settings that differ from the default": "非默认设置",
    "default": "默认",
    "eval.json was missing: best.ckpt is measured again on the validation images.": (
        "缺少 eval.json：已在验证图像上重新评估 best.ckpt。"
    ),
    "It has the bytes that the run wrote.": "其内容与运行写入的完全相同。",
    "Its loss may differ from the one that the run wrote in the last digits.": "其中损失的末几位可能与运行写入的不同。",
    "Sections that need the images or the network are left out.": "需要图像或网络的部分已省略。",
    "runs": "次运行",
    "Comparison of {n} runs": "{n} 次运行对比",
    "The runs were not measured on the same images: their accuracies cannot be compared.": (
        "这些运行不是在相同图像上评估的：准确率不可比较。"
    ),
    "The runs have different networks (stages, profile): this compares networks, not methods.": (
        "这些运行的网络不同（stages、profile）：比较的是网络，而不是方法。"
    ),
    "The runs also differ in {names}.": "这些运行的以下设置也不同：{names}。",
    "These commands train runs that can be compared:": "以下命令训练可比较的运行：",
    "Figures": "指标",
    "Runs with the highest validation accuracy first; in brackets the 95 % interval. Runs whose intervals "
    "overlap may differ by chance.": (
        "验证准确率最高者在前；括号内为 95 % 置信区间。区间重叠的运行之间的差异可能只是偶然。"
    ),
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
    "The measure": "指标",
    "Runs with the highest {measure} first.": "{measure} 最高者在前。",
    "The runs in the order of {measure} (best_by).": "按 {measure} 排序（best_by）。",
    "share of the targets that is answered right": "答对的目标所占比例",
    "{measure} is {value} on {images} validation images.": "{images} 张验证图像上的 {measure} 为 {value}。",
    "The same answer for every image has {value}.": "对每张图像都给出同一答案时为 {value}。",
    "{measure} was not measured, or is undefined: nothing was to be found.": (
        "{measure} 未被测量，或没有定义：没有任何可找的目标。"
    ),
    "figure": "指标",
    "this run": "本次运行",
    "the same answer for every image": "对每张图像给出同一答案",
    "what it is": "含义",
    "The same answer for every image: the best answer of someone who knows the training labels and sees no image.": (
        "对每张图像给出同一答案：知道训练标签但看不到图像的人所能给出的最好答案。"
    ),
    "mean over the classes of the average precision; a box is right if it overlaps the true one by {overlap}": (
        "各类别平均精确率的均值；框与真实框的重叠度达到 {overlap} 即为正确"
    ),
    "the same, mean over required overlaps from 0.50 to 0.95 (COCO)": (
        "同上，对所要求的重叠度 0.50 至 0.95 取均值（COCO）"
    ),
    "average precision at an overlap of 0.50 (COCO)": "重叠度 0.50 时的平均精确率（COCO）",
    "average precision at an overlap of 0.75 (COCO)": "重叠度 0.75 时的平均精确率（COCO）",
    "share of the objects that are found, mean over overlaps (COCO)": "找到的目标所占比例，对各重叠度取均值（COCO）",
    "mean over the classes, and the ground, of the overlap of answer and truth: intersection over union": (
        "各类别及背景上答案与真实的重叠度（交并比）的均值"
    ),
    "share of the pixels whose class is right": "类别正确的像素所占比例",
    "overlap of answer and truth for the ground, which has no class": "背景（不属于任何类别）上答案与真实的重叠度",
    "share of the points that are at most 0.2 of the box's longer side from where they are": (
        "误差不超过框长边 0.2 倍的关键点所占比例"
    ),
    "mean distance of the points from where they are, as a share of the box's longer side: lower is better": (
        "关键点与真实位置的平均距离，以框长边为单位：越低越好"
    ),
    "average precision of the objects by the similarity of their points (COCO)": (
        "按关键点相似度计算的目标平均精确率（COCO）"
    ),
    "the same at a similarity of 0.50 (COCO)": "同上，相似度 0.50（COCO）",
    "mean over the tags of the average precision": "各标签平均精确率的均值",
    "F1 of all decisions about all tags together": "所有标签的全部判断合在一起的 F1",
    "mean over the tags of F1": "各标签 F1 的均值",
    "overlap (IoU)": "重叠度（IoU）",
    "share of the pixels": "像素占比",
    "share within 0.2 of the box": "误差在框的 0.2 倍以内的比例",
    "mean error": "平均误差",
    "objects": "目标数",
    "missed": "漏掉",
    "invented": "多报",
    "points": "点数",
    "key point": "关键点",
    "tag": "标签",
    "Figures per key point": "各关键点",
    "Figures per tag": "各标签",
    "F1 of its boxes": "该图像中框的 F1",
    "mean overlap (IoU) of its classes": "该图像中各类别重叠度（IoU）的均值",
    "mean error of its points, as a share of the box": "该图像中关键点的平均误差，以框长边为单位",
    "share of its tags that are right": "该图像中判断正确的标签所占比例",
    "Missed and invented are counted among the boxes with a score of at least {score} (box_score_thresh). A box is "
    "right if it has the class and overlaps the true box by at least {overlap}.": (
        "漏掉与多报只统计得分不低于 {score}（box_score_thresh）的框。"
        "类别相同且与真实框的重叠度不低于 {overlap} 的框为正确。"
    ),
    "A class is missed if no pixel of it is right, and invented if it is not in the image. Behind a name: its overlap "
    "(IoU).": ("某类没有一个像素正确为漏掉；图像中没有该类却给出该类为多报。名称后为其重叠度（IoU）。"),
    "A point is missed if it is more than 0.2 of the box's longer side from where it is. Behind a name: its mean "
    "error.": ("与真实位置的距离超过框长边 0.2 倍的关键点为漏掉。名称后为其平均误差。"),
    "A tag is given where its probability is at least its threshold, which was chosen on these images.": (
        "概率达到阈值即给出该标签；阈值是在这些图像上选定的。"
    ),
    "The worst answers": "最差的答案",
    "The best answers": "最好的答案",
    "Left: the labels. Right: the network's answer. The number is the {score}.": (
        "左：标注。右：网络的答案。数字为{score}。"
    ),
    "labels": "标注",
    "answer": "答案",
    "missed:": "漏掉：",
    "invented:": "多报：",
    "nothing missed, nothing invented": "没有漏掉，也没有多报",
    "objects of each class (or images with a tag)": "各类别的目标数（或带有该标签的图像数）",
    "F1 of each class.": "各类别的 F1。",
}


def translator(lang: str, chinese: Mapping[str, str] = CHINESE) -> Callable[[str], str]:
    """Return a function that translates English text. Findings and warnings have tables of their own."""
    return (lambda text: chinese[text]) if lang == "zh" else (lambda text: text)
