"""The rubric's items in Chinese: for each kind what is required, found and to do, with {names} for what is inserted.

See language. Only pages are translated: grades.json, results.json, otter.json and the tables stay English. A test
compares the texts with those of the room, and looks for kinds that have none.
"""

# fmt: off
NETWORK = {  # of every kind that measures a network
    "{file} was not measured": "{file} 没有得到评估",
    "{file} has {n} classes; the task has {m}": "{file} 有 {n} 个类别；任务有 {m} 个",
    "{file} was trained on other classes or on a different order of the classes": "{file} 是在其他类别上，或以不同的类别顺序训练的",
    "{network}: no such file was handed in": "{network}：没有提交这样的文件",
    "{file}: was not handed in": "{file}：没有提交",
    "{network}: it was not handed in: there is no {files}": "{network}：没有提交：找不到 {files}",
    "hand in best.ckpt of a run on the task's classes": "提交在本任务的类别上训练的那次运行的 best.ckpt",
    "train longer or with other settings": "训练更久，或使用其他设置",
}
WORTH = {
    "linear from 0 points at {low} to {points} at {high}": "从 {low}（0 分）到 {high}（{points} 分）线性计分",
}
ITEMS: dict[str, dict[str, str]] = {
    "files": {
        "files handed in: {files}": "需要提交的文件：{files}",
        "{n} of {m} files are there; missing or empty: {files}": "{m} 个文件中有 {n} 个；缺少或为空：{files}",
        "{n} of {m} files are there": "{m} 个文件中有 {n} 个",
        "add {files}; names must match exactly, including upper and lower case": "补上 {files}；名称必须完全一致，包括大小写",
    },
    "config": {
        "{n} of {m} settings are as required; {_rest}": "{m} 项设置中有 {n} 项符合要求；{_rest}",
        "{n} of {m} settings are as required": "{m} 项设置中有 {n} 项符合要求",
        "{key} is {_value}; required: {_rule}; {_rest}": "{key} 为 {_value}，要求：{_rule}；{_rest}",
        "{key} is {_value}; required: {_rule}": "{key} 为 {_value}，要求：{_rule}",
        "not set": "（未设置）",
        "{_rule}; {_rest}": "{_rule}；{_rest}",
        "{key} at least {low}, at most {high}": "{key} 至少 {low}，至多 {high}",
        "{key} equals {value}": "{key} 等于 {value}",
        "{key} at least {value}": "{key} 至少 {value}",
        "{key} at most {value}": "{key} 至多 {value}",
        "{key} one of {values}": "{key} 为 {values} 之一",
        "at least {low}, at most {high}": "至少 {low}，至多 {high}",
        "equals {value}": "等于 {value}",
        "at least {value}": "至少 {value}",
        "at most {value}": "至多 {value}",
        "one of {values}": "{values} 之一",
        "train again with the required settings": "按要求的设置重新训练",
        "hand in the run's config.yaml": "提交该次运行的 config.yaml",
    },
    "accuracy": {
        "accuracy of {network} on the hidden images, {_worth}": "{network} 在隐藏图像上的准确率，{_worth}",
        "accuracy of {network} on the hidden images": "{network} 在隐藏图像上的准确率",
        "measured on the hidden images: {figure}": "在隐藏图像上评估：{figure}",
        "measured on the hidden images": "已在隐藏图像上评估",
    },
    "gain": {
        "accuracy of {network} above {baseline}, {_worth}": "{network} 的准确率超出 {baseline} 的部分，{_worth}",
        "accuracy of {network}": "{network} 的准确率",
        "transfer gains {gain} over {baseline} from scratch": "迁移学习比从头训练的 {baseline} 高 {gain}",
        "the gain of transfer over training from scratch was measured": "已评估迁移学习相对于从头训练的提升",
        "start from the backbone of the larger task and train long enough": "从较大任务的骨干网络开始，并训练足够久",
    },
    "provenance": {
        "backbone of {network} from {parent}, {how}": "{network} 的骨干网络来自 {parent}，方式：{how}",
        "backbone of {network} from {parent}": "{network} 的骨干网络来自 {parent}",
        "{child} and {parent} were not both handed in": "{child} 和 {parent} 没有都提交",
        "{n} of {m} tensors of the backbone are equal to those of {parent} (required: {_required})": "骨干网络的 {m} 个张量中有 {n} 个与 {parent} 的相等（要求：{_required}）",
        "{n} of {m} tensors of the backbone are equal; correlation with those of {parent}: BatchNorm {a}, convolutions {b} (1: equal, about 0: trained separately; required: {_required}, at least {least}). That decides nothing: BatchNorm of a network trained from {same} would show about {expected}. The teacher decides.":
            "骨干网络的 {m} 个张量中有 {n} 个相等；与 {parent} 的相关系数：BatchNorm {a}，卷积 {b}（1：相等，约 0：分别训练；要求：{_required}，至少 {least}）。这还不能判定：从 {same} 训练出的网络，BatchNorm 约为 {expected}。由教师评定。",
        "{n} of {m} tensors of the backbone are equal; correlation with those of {parent}: BatchNorm {a}, convolutions {b} (1: equal, about 0: trained separately; required: {_required}, at least {least})":
            "骨干网络的 {m} 个张量中有 {n} 个相等；与 {parent} 的相关系数：BatchNorm {a}，卷积 {b}（1：相等，约 0：分别训练；要求：{_required}，至少 {least}）",
        "all equal": "全部相等",
        "near, and trained": "相近，且训练过",
        "near or equal": "相近或相等",
        "hand in both networks, readable, the second trained from the first by mslab transfer": "提交两个可读的网络，第二个由 mslab transfer 从第一个训练而来",
        "mslab transfer CONFIG --backbone FILE    FILE: {parent}'s best_backbone.ckpt, with freeze=all": "mslab transfer CONFIG --backbone FILE    FILE：{parent} 的 best_backbone.ckpt，并设 freeze=all",
        "mslab transfer CONFIG --backbone FILE    FILE: {parent}'s best_backbone.ckpt, without freeze": "mslab transfer CONFIG --backbone FILE    FILE：{parent} 的 best_backbone.ckpt，不设 freeze",
        "mslab transfer CONFIG --backbone FILE    FILE: {parent}'s best_backbone.ckpt": "mslab transfer CONFIG --backbone FILE    FILE：{parent} 的 best_backbone.ckpt",
    },
    "reproduced": {
        "{key} of {file} within {tolerance} of the measured value": "{file} 中的 {key} 与实测值相差不超过 {tolerance}",
        "{file} has no number {key}": "{file} 中没有数值 {key}",
        "{key}: {claimed} claimed, {figure} measured; the difference is within {tolerance}": "{key}：声称 {claimed}，实测 {figure}；差值在 {tolerance} 以内",
        "{key}: {claimed} claimed, {figure} measured; the difference is above {tolerance}": "{key}：声称 {claimed}，实测 {figure}；差值超过 {tolerance}",
        "{key}: {claimed} claimed, measured again; the difference is within {tolerance}": "{key}：声称 {claimed}，已重新评估；差值在 {tolerance} 以内",
        "{key}: {claimed} claimed, measured again; the difference is above {tolerance}": "{key}：声称 {claimed}，已重新评估；差值超过 {tolerance}",
        "hand in the file that the run wrote, unchanged": "提交运行写出的文件，不要改动",
        "hand in the file that the run wrote": "提交运行写出的文件",
        "hand in best.ckpt of the same run": "提交同一次运行的 best.ckpt",
        "hand in the files of one run together: best.ckpt and its own manifest": "一起提交同一次运行的文件：best.ckpt 和它自己的 manifest",
    },
    "predictions": {
        "{file}: correct answers, {_worth}": "{file}：回答正确的比例，{_worth}",
        "{file}: correct answers": "{file}：回答正确的比例",
        "{file} has {name} more than once": "{file} 中 {name} 出现不止一次",
        "{file} has {more} rows too many and lacks {missing} of {n} images": "{file} 多出 {more} 行，缺少 {n} 张图像中的 {missing} 张",
        "{file} has classes that the task does not have: {names}": "{file} 中有任务里没有的类别：{names}",
        "{file} cannot be compared: the network was not measured": "{file} 无法比较：网络没有得到评估",
        "{agreed} of {file} agrees with the answers of the submitted network; required: {least}": "{file} 与所提交网络的回答一致的比例为 {agreed}；要求：{least}",
        "{n} predictions, {figure} of them correct": "{n} 个预测，正确率 {figure}",
        "{n} predictions were checked": "已检查 {n} 个预测",
        "hand in its best.ckpt": "提交它的 best.ckpt",
        "mslab predict RUN FOLDER --csv predictions.csv, on exactly the images of the task": "mslab predict RUN FOLDER --csv predictions.csv，恰好用任务的图像",
    },
    "size": {
        "{network} has at most {n} weights": "{network} 至多有 {n} 个权重",
        "{n} weights; at most {most} are allowed": "{n} 个权重；至多允许 {most} 个",
        "use fewer or narrower stages": "使用更少或更窄的阶段",
        "hand in the network": "提交网络",
    },
    "manual": {"graded by the teacher": "由教师评定", "The teacher grades this item.": "这一项由教师评定。"},
}
ANY = {  # of every kind
    "hand in a file that mslab pack makes": "提交 mslab pack 生成的文件",
    "hand in again; if it happens again, tell your teacher: the grader's machine may have too little memory": "请重新提交；如果再次发生，请告诉教师：评阅机器的内存可能不足",
}
# fmt: on
