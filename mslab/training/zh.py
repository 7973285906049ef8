"""The monitor's warnings in Chinese: for each code the English texts, with {names} for what is inserted. See language.

A test compares them with the texts in monitor.py, and looks for warnings that have none.
"""

# fmt: off
WARNINGS: dict[str, dict[str, str]] = {
    "loss-explodes": {
        "the loss explodes: {loss} over the last {n} step (step {step}, lr {rate}), {first} in the first; lower lr_max to a tenth or less (mslab lr-find CONFIG suggests one), raise warmup_epochs, or set clip_grad_norm=1":
            "损失爆炸：最近 {n} 步的平均损失为 {loss}（第 {step} 步，学习率 {rate}），第一步为 {first}；请把 lr_max 降到十分之一或更低（mslab lr-find CONFIG 会给出建议），增加预热轮数 warmup_epochs，或设 clip_grad_norm=1",
        "the loss explodes: {loss} over the last {n} steps (step {step}, lr {rate}), {first} in the first; lower lr_max to a tenth or less (mslab lr-find CONFIG suggests one), raise warmup_epochs, or set clip_grad_norm=1":
            "损失爆炸：最近 {n} 步的平均损失为 {loss}（第 {step} 步，学习率 {rate}），第一步为 {first}；请把 lr_max 降到十分之一或更低（mslab lr-find CONFIG 会给出建议），增加预热轮数 warmup_epochs，或设 clip_grad_norm=1",
    },
    "waiting-for-data": {
        "{waited} of {seconds} s of epoch {epoch} were spent waiting for images; try more data_workers, cache=memory, smaller files, or mslab data pack ROOT --out FOLDER":
            "第 {epoch} 轮的 {seconds} 秒中有 {waited} 秒在等待图像；可以增加 data_workers，设 cache=memory，缩小图像文件，或用 mslab data pack ROOT --out FOLDER 打包",
    },
    "one-label": {
        "every label of this epoch was {name}: there is nothing to learn; mslab check ROOT lists them":
            "这一轮的所有标签都是 {name}：没有可学的东西；mslab check ROOT 列出各个类别",
    },
    "loss-still": {
        "the loss does not move: {first} in epoch 1, {last} in epoch {epoch}; the learning rate may be too small (at most {rate} so far: lr_max times 10, or mslab lr-find CONFIG), too much may be frozen (mslab show CONFIG), or labels may belong to other images (mslab check ROOT)":
            "损失不动：第 1 轮 {first}，第 {epoch} 轮 {last}；可能学习率太小（目前最高 {rate}：把 lr_max 乘以 10，或用 mslab lr-find CONFIG），可能冻结得太多（mslab show CONFIG），也可能标签与图像对不上（mslab check ROOT）",
    },
    "one-answer": {
        "all {images} validation images are classified as {name}, in two evaluations in a row: val_acc {accuracy} is that class's fraction of them; lower lr_max, train longer, or, if one class has most images, set label_balance=true or weighted_loss=2":
            "连续两次评估，{images} 张验证图像都被判为 {name}：val_acc {accuracy} 只是这一类所占的比例；请减小 lr_max，训练更久；如果某一类占了多数图像，请设 label_balance=true 或 weighted_loss=2",
        "all {images} validation images are classified as {name}, in two evaluations in a row: val_acc {accuracy} is that class's fraction of them; lower lr_max, or, if one class has most images, set label_balance=true or weighted_loss=2":
            "连续两次评估，{images} 张验证图像都被判为 {name}：val_acc {accuracy} 只是这一类所占的比例；请减小 lr_max；如果某一类占了多数图像，请设 label_balance=true 或 weighted_loss=2",
    },
    "chance": {
        "val_acc stays at {guess}, which is what guessing among {n} classes gives; mslab lr-find CONFIG suggests a rate, mslab show --augment CONFIG shows what the network sees":
            "val_acc 停在 {guess}，与在 {n} 个类别中随机猜测一样；mslab lr-find CONFIG 给出学习率的建议，mslab show --augment CONFIG 显示网络看到的图像",
    },
    "overfitting": {
        "train_acc {train}, val_acc {val}, and val_loss rises ({lowest} at its lowest, now {now}); try more images, mixup_alpha=0.2, auto_augment=randaugment, weight_decay, dropout, fewer epochs (early_stopping=true), or a backbone (mslab transfer CONFIG --backbone FILE)":
            "过拟合：train_acc {train}，val_acc {val}，val_loss 在上升（最低 {lowest}，现在 {now}）；可以增加图像，设 mixup_alpha=0.2、auto_augment=randaugment、weight_decay 或 dropout，减少轮数（early_stopping=true），或使用骨干网络（mslab transfer CONFIG --backbone FILE）",
    },
    "batchnorm": {
        "{name} reaches {value}: BatchNorm's input is out of range; lower lr_max, set clip_grad_norm=1, and look at the images (mslab show --augment CONFIG)":
            "{name} 达到 {value}：BatchNorm 的输入超出范围；请减小 lr_max，设 clip_grad_norm=1，并看一看图像（mslab show --augment CONFIG）",
    },
    "dead-relu": {
        "{fraction} of the channels of {name} are never above zero: the ReLU after it sets them to zero, and they stop learning; lower lr_max and start again":
            "{name} 有 {fraction} 的通道从不大于零：其后的 ReLU 把它们置零，它们不再学习；请减小 lr_max 重新开始",
    },
}
# fmt: on
