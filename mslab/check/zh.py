"""The check's findings in Chinese: for each code the English texts, with {names} for what is inserted. See language.

A test compares them with the texts in the modules of this room, and looks for findings that have none.
"""

# fmt: off
MESSAGES: dict[str, dict[str, str]] = {
    "stray-folder": {
        "({_content}; not a class of images. MindSpore would make it class {index} and shift every later label by one)":
            "（{_content}；它不是图像类别。MindSpore 会把它当作第 {index} 类，使其后所有标签错一位）",
        "(tools leave such a folder; MindSpore stops at it in the middle of an epoch)":
            "（工具留下的文件夹；MindSpore 会在一轮中途停在这里）",
    },
    "nested-folder": {
        "(a folder inside a class; MindSpore stops at it in the middle of an epoch)":
            "（类别文件夹里还有文件夹；MindSpore 会在一轮中途停在这里）",
    },
    "empty-class": {
        "(a folder without images; MindSpore would count it as a class without examples, while {n} images lie beside the class folders, in no class, such as {name})":
            "（文件夹里没有图像；MindSpore 会把它算作没有样本的类别，而有 {n} 张图像放在类别文件夹旁边，不属于任何类别，例如 {name}）",
        "(a folder without images; MindSpore would count it as a class without examples)":
            "（文件夹里没有图像；MindSpore 会把它算作没有样本的类别）",
    },
    "class-count": {
        "has one class folder ({names}): a network that always says {same} is always right, class_num is {expected}":
            "只有一个类别文件夹（{names}）：总是回答 {same} 的网络永远正确；class_num 为 {expected}",
        "has one class folder ({names}): a network that always says {same} is always right":
            "只有一个类别文件夹（{names}）：总是回答 {same} 的网络永远正确",
        "has {count} class folders ({names}), class_num is {expected}": "有 {count} 个类别文件夹（{names}），而 class_num 为 {expected}",
        "has one class ({names}): a network that always says {same} is always right, class_num is {expected}":
            "只有一个类别（{names}）：总是回答 {same} 的网络永远正确；class_num 为 {expected}",
        "has one class ({names}): a network that always says {same} is always right":
            "只有一个类别（{names}）：总是回答 {same} 的网络永远正确",
        "has {count} classes ({names}), class_num is {expected}": "有 {count} 个类别（{names}），而 class_num 为 {expected}",
    },
    "class-missing": {
        "(in {first}, not in {split}; every later class would get another index there)":
            "（{first} 中有，{split} 中没有；其后每个类别在那里的序号都会不同）",
    },
    "class-extra": {
        "(in {split}, not in {first}; the network has no output for it)":
            "（{split} 中有，{first} 中没有；网络没有对应的输出）",
    },
    "class-unknown": {
        "({_setting} names it, and no folder is called so: {names})": "（{_setting}写了它，但没有这个名称的文件夹：{names}）",
    },
    "class-name-taken": {
        "(merge calls a group so, which does not contain the folder of this name)":
            "（merge 中有一组叫这个名称，却不包含同名的文件夹）",
    },
    "class-ungrouped": {
        "(in no group of merge)": "（不在 merge 的任何一组中）",
    },
    "class-part": {
        "({name} is made of {names}, and this one is missing in {split})": "（{name} 由 {names} 合并而成，{split} 中缺少这一个）",
    },
    "centre-crop": {
        "({n} of {all} images lose more than {limit} of their area by the centre crop of evaluation, half of these {half} or more)":
            "（{all} 张图像中有 {n} 张在评估的中心裁剪中失去超过 {limit} 的面积，其中一半失去 {half} 以上）",
    },
    "group-leak": {
        "(the groups of the split cannot be read: {reason}; leaks of groups are not looked for)":
            "（划分时的分组无法读取：{reason}；不检查分组泄漏）",
        "(the group {group} is in {split}, too, such as {name}: the network may know it from there. {n} of its {all} images are in {other}; most images are in this group: --group may name a part that most names have)":
            "（分组 {group} 也在 {split} 中，例如 {name}：网络可能已从那里认识它。它的 {all} 张图像中有 {n} 张在 {other} 中；大多数图像都在这一组：--group 指的可能是多数名称共有的部分）",
        "(the group {group} is in {split}, too, such as {name}: the network may know it from there. {n} of its {all} images are in {other})":
            "（分组 {group} 也在 {split} 中，例如 {name}：网络可能已从那里认识它。它的 {all} 张图像中有 {n} 张在 {other} 中）",
    },
    "row-without-image": {
        "({_rows} whose image is not there: {names})": "（{_rows}的图像不存在：{names}）",
    },
    "no-label": {
        "({_rows} without a label: {names})": "（{_rows}没有标签：{names}）",
    },
    "duplicate-row": {
        "({_rows} for images that an earlier row names with the same label: {names})":
            "（{_rows}重复：前面的行已以相同标签列出这些图像：{names}）",
    },
    "image-without-row": {
        "({_images} without a row ({where}), such as {name})": "（{_images}没有对应的行（{where}），例如 {name}）",
    },
    "labels": {
        "({file} has no name for {numbers}: the numbers stay)": "（{file} 中没有 {numbers} 的名称：保留数字）",
        "({file} names them: {names})": "（{file} 给出名称：{names}）",
        "(the class of {label} is called {name}, which every system can store)": "（{label} 这一类改称 {name}，任何系统都能存储）",
        "(it is not UTF-8: read as Windows' Western letters (cp1252))": "（不是 UTF-8：按 Windows 西文编码（cp1252）读取）",
    },
    "wrong-level": {
        "cannot be read": "无法读取",
        "contains the splits {names}, not classes, and they contain no class folders: {_labels}":
            "里面是数据划分 {names}，不是类别，而且划分中没有类别文件夹：{_labels}",
        "contains the splits {names}, not classes, and they contain no class folders":
            "里面是数据划分 {names}，不是类别，而且划分中没有类别文件夹",
        "contains the splits {names}, not classes": "里面是数据划分 {names}，不是类别",
        "contains {name}, which has the same classes as what is around it: a split in another":
            "里面的 {name} 与外层的类别相同：一个划分套在另一个划分里",
        "contains runs of mslab train ({names}), not classes of images; it holds {sets}":
            "里面是 mslab train 的运行（{names}），不是图像类别；其中的数据集：{sets}",
        "contains runs of mslab train ({names}), not classes of images":
            "里面是 mslab train 的运行（{names}），不是图像类别",
        "contains {names}, not classes: {_labels}": "里面是 {names}，不是类别：{_labels}",
        "contains {names}, with other things than images in them; only {some} has images":
            "里面是 {names}，其中不是图像；只有 {some} 有图像",
        "contains {names}, with other things than images in them": "里面是 {names}，其中不是图像",
        "contains no class folder": "没有类别文件夹",
        "contains images but no class folders: it is one class, not a data set, or its images have no labels":
            "有图像，但没有类别文件夹：它是一个类别而不是数据集，或者图像没有标签",
        "contains images but no class folders: {_labels}": "有图像，但没有类别文件夹：{_labels}",
        "is the top of the file system, not a data set": "是文件系统的根目录，不是数据集",
        "is your home folder, not a data set; it holds {sets}": "是你的主目录，不是数据集；其中的数据集：{sets}",
        "is your home folder, not a data set": "是你的主目录，不是数据集",
        "is of a run of mslab train, and contains no images": "属于 mslab train 的一次运行，里面没有图像",
        "is no data set; it holds one: {sets}": "不是数据集，但其中有一个：{sets}",
        "holds several data sets; give one: {sets}": "里面有多个数据集，请指定其中一个：{sets}",
        "contains the classes {names}, with the splits {splits} in each: they are expected the other way round, with the classes in each split":
            "里面是类别 {names}，每个类别里又分 {splits}：顺序应当相反，划分在外，类别在内",
        "contains {names}, each with its images one level deeper, in {inner}/":
            "里面是 {names}，图像都在更深一层的 {inner}/ 中",
        "contains {names}, with the folders {inner} in them: neither classes of images nor splits under a name that mslab knows; it holds several data sets; give one: {sets}":
            "里面是 {names}，其中又有文件夹 {inner}：既不是图像类别，也不是 mslab 认得的划分名；有多个数据集，请指定其中一个：{sets}",
        "contains {names}, with the folders {inner} in them: neither classes of images nor splits under a name that mslab knows":
            "里面是 {names}，其中又有文件夹 {inner}：既不是图像类别，也不是 mslab 认得的划分名",
        "a name that says nothing of the images in it": "这个名称没有说明里面是什么图像",
        "Pascal VOC's layout (boxes in XML files), {_detection}": "Pascal VOC 格式（XML 文件中的标注框），{_detection}",
        "COCO's layout (boxes in a JSON file), {_detection}": "COCO 格式（JSON 文件中的标注框），{_detection}",
        "a layout with boxes or outlines in annotations/, {_detection}":
            "标注框或轮廓放在 annotations/ 中的格式，{_detection}",
        "YOLO's layout (boxes in labels/*.txt), {_detection}": "YOLO 格式（labels/*.txt 中的标注框），{_detection}",
        "which is made for finding objects in an image; here every image has one class, the name of its folder":
            "用于在图像中检测物体；这里每张图像只有一个类别，即所在文件夹的名称",
        "the labels may be in {tables}; here the name of an image's folder is its label":
            "标签可能在 {tables} 中；这里以图像所在文件夹的名称为标签",
    },
    "inner-folder": {
        "(the classes are in here; the folders above it hold no other images)":
            "（类别在这里；外层文件夹没有其他图像）",
    },
    "split-name": {
        "(read as {name}, which is what commands and reports call it)": "（读作 {name}，命令和报告中用这个名称）",
        "({first}/ is called like it: both would be {split}, and mslab does not merge them)":
            "（{first}/ 与它的名称含义相同：两者都会是 {split}，mslab 不会合并它们）",
    },
    "split-leak": {
        "({split} is the same folder as {earlier}: every image is in both)":
            "（{split} 与 {earlier} 是同一个文件夹：每张图像都同属两者）",
        "(the same pixels as {name}: training and evaluation share this image)":
            "（与 {name} 像素相同：训练与评估共用了这张图像，评估结果会虚高）",
        "(the same image as {name}, {_turn}: training and evaluation share it)":
            "（与 {name} 是同一张图像，只是{_turn}：训练与评估共用了它）",
        "(the same image as {name}: training and evaluation share it)": "（与 {name} 是同一张图像：训练与评估共用了它）",
    },
    "unused-folder": {
        "(beside the splits, under a name that is none of train, val and test. Left out)":
            "（在各划分旁边，名称不属于训练集、验证集或测试集；已略过）",
    },
    "loose-file": {
        "(images beside the splits, in none of them. Left out)": "（图像在各划分旁边，不属于任何划分；已略过）",
        "(beside the class folders, in no class. Left out)": "（在类别文件夹旁边，不属于任何类别；已略过）",
    },
    "broken-symlink": {
        "(a link to {target}, which does not exist. Left out)": "（链接指向的 {target} 不存在；已略过）",
    },
    "symlink": {
        "(a link out of the data set, not followed unless you say so: other machines lack its target)":
            "（指向数据集之外的链接，除非你要求，否则不会跟随：别的机器上没有它的目标）",
        "(a link to a folder that contains it)": "（链接指向包含它自己的文件夹）",
    },
    "permission": {
        "(the folder cannot be read: {reason})": "（文件夹无法读取：{reason}）",
        "(it cannot be read: {reason})": "（无法读取：{reason}）",
    },
    "stray-file": {
        "({_kind}; MindSpore would try to decode it and fail. Left out)":
            "（{_kind}；MindSpore 会尝试解码它而失败；已略过）",
        "data that macOS keeps beside a file": "macOS 在文件旁保存的数据",
        "a hidden file": "隐藏文件",
        "not an image": "不是图像",
        "a video": "视频",
        "sound": "声音",
        "sound or a video": "声音或视频",
        "a pointer of Git LFS: `git lfs pull` fetches the file": "Git LFS 的指针：用 `git lfs pull` 取回文件",
    },
    "case-collision": {
        "(differs from {name} only in {_difference}: macOS and Windows see one name)":
            "（与 {name} 只有{_difference}不同：macOS 和 Windows 会当作同一个名称）",
    },
    "numeric-order": {
        "(classes are sorted by name, which gives {order} …, not by number: indices and names differ)":
            "（类别按名称排序，得到 {order} …，而不是按数字：序号与名称不一致）",
    },
    "name": {
        "(a class name that shells, CSV or HTML may misread)": "（类别名称可能被 shell、CSV 或 HTML 误读）",
        "({n} file name that shells, CSV or HTML may misread)": "（{n} 个文件名可能被 shell、CSV 或 HTML 误读）",
        "({n} file names that shells, CSV or HTML may misread)": "（{n} 个文件名可能被 shell、CSV 或 HTML 误读）",
    },
    "format": {
        "(no image but {name})": "（不是图像，而是 {name}）",
        "({name}: MindSpore's decoder refuses it; save it as JPEG or PNG)":
            "（{name}：MindSpore 的解码器不支持；请另存为 JPEG 或 PNG）",
    },
    "extension-mismatch": {
        "(the content is {format}, the name ends in {suffix})": "（内容是 {format}，扩展名却是 {suffix}）",
    },
    "animated": {
        "({count} or more frames; training uses the first)": "（{count} 帧或更多；训练只用第一帧）",
        "({count} frames; training uses the first)": "（{count} 帧；训练只用第一帧）",
    },
    "mode": {
        "(mode {mode}: MindSpore converts it to 8-bit RGB and loses {_lost})":
            "（模式 {mode}：MindSpore 会转换为 8 位 RGB，丢失{_lost}）",
        "({_counts}; they become RGB without loss)": "（{_counts}；它们会无损转换为 RGB）",
    },
    "exif-orientation": {
        "(EXIF orientation {n}: MindSpore would train on it rotated or mirrored)":
            "（EXIF 方向 {n}：MindSpore 训练时看到的是旋转或镜像后的图像）",
        "(EXIF orientation {n}: MindSpore turns a TIFF as it says, but not every program does)":
            "（EXIF 方向 {n}：MindSpore 会按它旋转 TIFF，但并非所有程序都这样）",
    },
    "size": {
        "({shape}: more than 16 times {_than} in area than the median image)":
            "（{shape}：面积比中位数图像{_than} 16 倍以上）",
        "({shape}: {n} million pixels, which every epoch decodes; training needs a thousandth)":
            "（{shape}：{n} 百万像素，每一轮都要解码；训练只需要千分之一）",
    },
    "decoder": {
        "({n} bytes before its end are no picture; both decoders skip them)":
            "（结尾前有 {n} 字节不是图像；两种解码器都会跳过）",
        "(a CMYK JPEG without Adobe's mark: MindSpore sees its negative)":
            "（没有 Adobe 标记的 CMYK JPEG：MindSpore 看到的是负片）",
        "(a lossless JPEG; MindSpore's decoder would refuse it)": "（无损 JPEG；MindSpore 的解码器会拒绝）",
        "(a chunk is damaged (wrong checksum at byte {at}); MindSpore's decoder would refuse it)":
            "（有数据块损坏（第 {at} 字节处校验和不符）；MindSpore 的解码器会拒绝）",
        "(a TIFF {_what}; MindSpore's decoder would refuse it)": "（TIFF：{_what}；MindSpore 的解码器会拒绝）",
        "without tags for its colours or strips": "缺少颜色或条带的标签",
        "with {bits} bits per sample": "每个样本 {bits} 位",
        "with the compression {name}": "压缩方式为 {name}",
        "with {n} channels of {bits} bits": "{n} 个通道，每个 {bits} 位",
        "with tiles of {bytes} bytes, no multiple of 1024": "图块为 {bytes} 字节，不是 1024 的倍数",
        "that claims {rows} rows per strip": "声称每个条带有 {rows} 行",
        "(a BMP with runs past the end of a row; MindSpore's decoder would refuse it)":
            "（BMP 的游程越过行尾；MindSpore 的解码器会拒绝）",
    },
    "blank": {
        "(in MindSpore every pixel has the same colour: there is nothing to learn from it)":
            "（在 MindSpore 中所有像素颜色相同：从中学不到任何东西）",
    },
    "small": {
        "({size} pixels, below image_size: {least}: it is enlarged and blurred)":
            "（{size} 像素，小于 image_size: {least}：会被放大而模糊）",
        "({size} pixels, below {least}, the network's stride: it is enlarged and blurred)":
            "（{size} 像素，小于网络的总步幅 {least}：会被放大而模糊）",
        "({size} pixels: MindSpore enlarges at most {times} times, not to {target} pixels)":
            "（{size} 像素：MindSpore 最多放大 {times} 倍，达不到 {target} 像素）",
    },
    "aspect": {
        "({shape}: evaluation uses the middle square, {fraction} of the image)":
            "（{shape}：评估只用中间的正方形，即图像的 {fraction}）",
    },
    "zero-byte": {
        "(the file is empty)": "（文件是空的）",
    },
    "truncated": {
        "(its picture ends early: decoders paint the rest grey)": "（图像提前结束：解码器会把其余部分涂成灰色）",
        "(it ends before its last chunk (IEND); MindSpore's decoder would refuse it)":
            "（在最后的数据块（IEND）之前就结束了；MindSpore 的解码器会拒绝）",
        "(a BMP without the end of its last row or of its palette; MindSpore's decoder would refuse it)":
            "（BMP 缺少最后一行或调色板的结尾；MindSpore 的解码器会拒绝）",
        "(Pillow: image file is truncated ({n} bytes not processed))": "（Pillow：图像文件被截断（有 {n} 字节未处理））",
        "(Pillow: image file is truncated)": "（Pillow：图像文件被截断）",
        "(Pillow: {error})": "（Pillow 报错：{error}）",
    },
    "unreadable": {
        "(not a regular file but a pipe or a device)": "（不是普通文件，而是管道或设备）",
        "(a {name} of a kind that Pillow does not open, or damaged)": "（Pillow 打不开的一种 {name}，或已损坏）",
        "(not an image in a format that mslab opens, or damaged)": "（不是 mslab 能打开的图像格式，或已损坏）",
        "(Pillow: {error})": "（Pillow 报错：{error}）",
        "({kind}: {error})": "（读取出错，{kind}：{error}）",
    },
    "bomb": {
        "({shape} pixels in a file of {size} bytes: more than Pillow considers safe)":
            "（{size} 字节的文件有 {shape} 像素：超出 Pillow 认为安全的范围）",
        "({shape} pixels, more than {most})": "（{shape} 像素，超过 {most}）",
    },
    "elongated": {
        "({shape} pixels: one side is more than {times} times the other; crop it)":
            "（{shape} 像素：一边超过另一边的 {times} 倍；请裁剪）",
    },
    "slow": {
        "(a JPEG of {scans} scans: decoding it takes as long as {same} images)":
            "（{scans} 次扫描的 JPEG：解码它的时间相当于 {same} 张图像）",
    },
    "timeout": {
        "(loading it took more than {seconds} s)": "（读取超过 {seconds} 秒）",
    },
    "crash": {
        "(loading it takes more memory than a worker has)": "（读取它所需的内存超过了进程的上限）",
        "(the process that loaded it died with exit code {code})": "（读取它的进程以退出码 {code} 终止）",
    },
    "label-conflict": {
        "(the same pixels as {name}: two labels for one image, at most one is correct)":
            "（与 {name} 像素相同：一张图像有两个标签，至多一个正确）",
    },
    "duplicate": {
        "(the same pixels as {name}: it counts twice)": "（与 {name} 像素相同：它被算了两次）",
    },
    "near-duplicate": {
        "(looks like {name}, which is in {split}, {_turn}: {bits} of 64 bits of the perceptual hash differ)":
            "（很像 {split} 中的 {name}，只是{_turn}：感知哈希的 64 位中有 {bits} 位不同）",
        "(looks like {name}, which is in {split}: {bits} of 64 bits of the perceptual hash differ)":
            "（很像 {split} 中的 {name}：感知哈希的 64 位中有 {bits} 位不同）",
        "(looks like {name}, {_turn}: {bits} of 64 bits of the perceptual hash differ)":
            "（很像 {name}，只是{_turn}：感知哈希的 64 位中有 {bits} 位不同）",
        "(looks like {name}: {bits} of 64 bits of the perceptual hash differ)":
            "（很像 {name}：感知哈希的 64 位中有 {bits} 位不同）",
    },
    "imbalance": {
        "({most} has {n} images, {least} has {few}: always predicting {same} is {fraction} correct)":
            "（{most} 有 {n} 张图像，{least} 只有 {few} 张：总是预测 {same} 就有 {fraction} 正确）",
    },
    "too-few": {
        "({n} images, fewer than one batch of {size})": "（{n} 张图像，不足一批 {size} 张）",
        "(one image: it cannot be in training and in validation)": "（只有一张图像：不能既用于训练又用于验证）",
    },
    "shortcut": {
        "(image {_property} alone separates this class from the others with {fraction} accuracy: the network may learn that instead)":
            "（仅凭图像{_property}就能以 {fraction} 的准确率把这一类与其他类分开：网络可能学的是它）",
    },
}
PHRASES = {  # inside of messages
    "classes": "设置 classes ",
    "merge, in {name},": "设置 merge 的 {name} 组",
    "1 row": "1 行",
    "{n} rows": "{n} 行",
    "1 image": "1 张图像",
    "{n} images": "{n} 张图像",
    "empty": "空的",
    "1 entry": "1 项",
    "{n} entries": "{n} 项",
    "Unicode form": "Unicode 形式",
    "capitals": "大小写",
    "size": "尺寸",
    "brightness": "亮度",
    "smaller": "小",
    "larger": "大",
    "its inks": "油墨信息",
    "its colour space": "色彩空间",
    "transparency": "透明度",
    "depth beyond 8 bits": "8 位以外的深度",
    "{n} of {all} are black and white (1)": "{all} 张中 {n} 张为黑白（1）",
    "{n} of {all} are grey (L)": "{all} 张中 {n} 张为灰度（L）",
    "{n} of {all} are palette (P)": "{all} 张中 {n} 张为调色板（P）",
    "{_one}, {_other}": "{_one}，{_other}",
    "mirrored": "左右翻转",
    "upside down and mirrored": "上下翻转",
    "turned by 180°": "旋转 180°",
    "turned by 90° and mirrored": "旋转 90° 并翻转",
    "turned by 90°": "旋转 90°",
    "turned by 270°": "旋转 270°",
    "turned by 270° and mirrored": "旋转 270° 并翻转",
}
FIXES = {  # lines of what to do; a command stays as it is
    "put the images there, or delete the rows": "把图像放到那里，或删除这些行",
    "write the labels into it, or delete the rows": "把标签写进去，或删除这些行",
    "nothing; or delete the rows": "无需处理；也可以删除这些行",
    "nothing, if they are of another split; or add rows": "如果它们属于别的划分，则无需处理；否则补上对应的行",
    "nothing, if that is right; else keep two columns, the image and its label": "如果正确则无需处理；否则只保留两列：图像和标签",
    "restore it, or split again with --group": "恢复它，或用 --group 重新划分",
    "put all images of the group into one split; {command}    does so with those before the split": "把这一组的所有图像放进同一个划分；{command}    可对划分前的图像这样做",
    "take {name} out of ignore, or out of the classes": "从 ignore 或类别中去掉 {name}",
    'write "{name}" in quotes: without them YAML reads a number': '给 "{name}" 加上引号：否则 YAML 会读成数字',
    "write names instead of numbers: {number} may mean {name}": "写名称而不是数字：{number} 可能是指 {name}",
    "did you mean {name}?": "是否想写 {name}？",
    "correct the name, or leave it out": "改正名称，或去掉它",
    "give the group another name, or write {name} into its list": "给这一组换个名称，或把 {name} 写进它的列表",
    "put images of it there, if there are any": "如果有这样的图像，就放到那里",
    "class_num: {count}, or other classes or merge": "class_num: {count}，或改写 classes 或 merge",
    "name images of another class in it, and class_num: 2": "在其中写上另一类的图像，并设 class_num: 2",
    "put images of it into {folder}/, or take it out of classes or merge": "把这一类的图像放进 {folder}/，或从 classes 或 merge 中去掉它",
    "put images of it into {table}, or take it out of {other}": "把这一类的图像写进 {table}，或从 {other} 中去掉它",
    "resize_mode: pad keeps all of it, with bars beside it; squash stretches it; nothing, if the subject is in the middle": "resize_mode: pad 保留全图，两侧补边；squash 拉伸全图；如果主体在中间，则无需处理",
    "{command}    sorts them into folders, as a copy": "{command}    按表格把图像复制到各个文件夹",
    "save {table} as CSV; then mslab data import FOLDER --labels FILE.csv": "把 {table} 另存为 CSV；然后 mslab data import FOLDER --labels FILE.csv",
    "classes: {names}    beside merge leaves it out": "在 merge 旁写 classes: {names}    即可略过它",
    "classes: {names}    beside merge leaves them out": "在 merge 旁写 classes: {names}    即可略过它们",
    "classes: {names} and class_num: {count}    keeps each as a class of its own": "classes: {names} 和 class_num: {count}    使每个都成为单独的类别",
    "or write each into a group of merge": "或把每个写进 merge 的一组",
    "{command}    moves it to {folder}/": "{command}    把它移到 {folder}/",
    "{command}    moves the copy in {split} to {folder}/": "{command}    把 {split} 中的那份移到 {folder}/",
    "copy {folder} to a folder that you may change; there {command}    makes upright RGB copies": "把 {folder} 复制到你能修改的文件夹；在那里 {command}    生成转正的 RGB 副本",
    "pip install pillow-heif; then {_command}": "pip install pillow-heif；然后 {_command}",
    "{command}    puts an upright RGB copy in its place": "{command}    用转正的 RGB 副本替换它",
    "put its images there, or, if it is no class: {_ignore}": "把它的图像放进去；如果它不是类别：{_ignore}",
    "{_one}; or {_other}    moves it to {folder}/": "{_one}；或者 {_other}    把它移到 {folder}/",
    "ignore: {names}    in the config leaves it out, as does {command}": "在配置中写 ignore: {names}    即可略过，或者用 {command}",
    "follow_links: true    in the config reads what it leads to, as does {command}": "在配置中写 follow_links: true    即可读取它指向的内容，或者用 {command}",
    "put its images there, or remove the folder": "把它的图像放进去，或删除这个文件夹",
    "{command}    moves those whose names begin with it into the class": "{command}    把名称以它开头的图像移进这个类别",
    "move each of the images beside the class folders into the folder of its class": "把类别文件夹旁边的每张图像移进它的类别文件夹",
    "add a folder beside {folder} with images of what is not {names}, and class_num: 2": "在 {folder} 旁边加一个文件夹，放不是 {names} 的图像，并设 class_num: 2",
    "class_num: {count}, or the folder with {expected} classes": "class_num: {count}，或者指定有 {expected} 个类别的文件夹",
    "put images of it into {folder}/, or take it out of {other}": "把这一类的图像放进 {folder}/，或从 {other} 中去掉它",
    "in {place}, rename {old} to {new}, the same letters in another Unicode form:    {command}": "在 {place} 中把 {old} 改名为 {new}（字母相同，Unicode 形式不同）：    {command}",
    "in {place}, rename {old} to {new}:    {command}": "在 {place} 中把 {old} 改名为 {new}：    {command}",
    "sort its images into one folder per class; without labels, take it away: {command}": "把图像按类别分到各个文件夹；如果没有标签，就把它移走：{command}",
    "nothing; it is found by itself": "无需处理；会自动找到",
    "nothing; or rename it": "无需处理；也可以改名",
    "merge them, or rename one: {command}": "合并它们，或给其中一个改名：{command}",
    "another folder for {split}": "给 {split} 指定另一个文件夹",
    "rename it, if it is a split": "如果它是数据划分，请改名",
    "nothing: mslab leaves it out": "无需处理：mslab 会略过它",
    "put its images directly into the folder of the class:    {command}": "把图像直接放进类别文件夹：    {command}",
    "{command}    fetches it": "{command}    取回它",
    "restore the target, or remove it": "恢复目标，或删除链接",
    "give one of them another name": "给其中一个改名",
    "{command}    merges them; if they are two classes, rename one": "{command}    合并它们；如果是两个类别，就给其中一个改名",
    "use class names instead of indices, or rename the classes 01, 02 …, with {first} first": "用类别名称而不用序号，或把类别改名为 01、02 …，让 {first} 排在最前",
    "letters, digits, . _ and - are safe everywhere": "字母、数字、.、_ 和 - 在任何地方都安全",
    "rename it": "改名",
    "nothing: the picture is whole": "无需处理：图像是完整的",
    "replace it, or remove it": "替换它，或删除它",
    "use a larger image, or a smaller image_size": "使用更大的图像，或更小的 image_size",
    "nothing, if the other classes have the same modes": "如果其他类别的模式相同，则无需处理",
    "crop it to the subject": "裁剪到主体",
    "check whether it belongs here": "确认它是否属于这里",
    "leave it under its right label, remove the other": "保留正确标签下的那张，删除另一张",
    "put both into one split, as mslab data split does": "把两张放进同一个划分，mslab data split 就是这样做的",
    "add images of the small class; watch its recall": "增加小类别的图像，并留意它的召回率",
    "lower batch_size, or add images": "减小 batch_size，或增加图像",
    "add images of this class": "增加这一类的图像",
    "take the images of every class from the same sources, with the same cropping and exposure": "各类别的图像应来自相同的来源，裁剪和曝光也应相同",
    "name one of them: {folder}; or, if they are splits, rename them to train, val and test; or, if they are classes, put the images of their folders directly into them": "指定其中一个：{folder}；如果它们是数据划分，请改名为 train、val 和 test；如果是类别，请把里面各文件夹的图像直接放进类别文件夹",
    "name one of them: {folder}": "指定其中一个：{folder}",
    "{command}    puts the classes into train/, beside it": "{command}    把类别放进与它并列的 train/",
    "{command}    copies them into that order": "{command}    按这个顺序复制",
    "{command}    moves them into the folders of the classes": "{command}    把它们移进类别文件夹",
    "or, if they are classes, rename one of them: {command}": "如果它们是类别，给其中一个改名：{command}",
    "or, if {names} are classes, put their images directly into them": "如果 {names} 是类别，请把图像直接放进去",
    "give the data set; the run's config.yaml names it as train_data and val_data": "指定数据集；运行的 config.yaml 中 train_data 和 val_data 就是它",
    "sort the images of each split into one folder per class": "把每个划分的图像按类别分到各个文件夹",
    "export it as folders of classes (Roboflow: Folder Structure), or sort the images into one folder per class": "导出为类别文件夹（Roboflow：Folder Structure），或把图像按类别分到各个文件夹",
    "give a folder that contains one folder of images per class": "指定一个文件夹，其中每个类别有一个图像文件夹",
    "sort its images into one folder per class, and give the folder around these": "把图像按类别分到各个文件夹，并指定包含这些文件夹的文件夹",
}
FRAME = {  # around the findings, in the terminal and in messages
    "error": "错误",
    "warning": "警告",
    "info": "提示",
    "{n} error ({codes})": "{n} 个错误（{codes}）",
    "{n} errors ({codes})": "{n} 个错误（{codes}）",
    "{n} warning ({codes})": "{n} 个警告（{codes}）",
    "{n} warnings ({codes})": "{n} 个警告（{codes}）",
    "{n} info ({codes})": "{n} 个提示（{codes}）",
    "nothing found": "没有发现问题",
    "stopped before all images were loaded; so far: {found}": "尚未读完所有图像就已停止；目前：{found}",
    "data check: {found}; {command}    lists them": "数据检查：{found}；{command}    列出全部",
    "data check: {found}": "数据检查：{found}",
    "{root}: no data set": "{root}：不是数据集",
    "{root}: 1 image, {classes} classes": "{root}：1 张图像，{classes} 个类别",
    "{root}: {n} images, {classes} classes": "{root}：{n} 张图像，{classes} 个类别",
    "… and {n} more": "……另有 {n} 项",
    "{root} cannot be used for training": "{root} 不能用于训练",
    "{root} cannot be used": "{root} 不能使用",
    "{root} has {n} class folder": "{root} 有 {n} 个类别文件夹",
    "{root} has {n} class folders": "{root} 有 {n} 个类别文件夹",
    "{root} has {n} class": "{root} 有 {n} 个类别",
    "{root} has {n} classes": "{root} 有 {n} 个类别",
    "Data check of {root}": "数据检查：{root}",
    "Training can begin.": "可以开始训练。",
    "Training would be stopped.": "训练会被阻止。",
    "{n} images, {classes} classes; {found}.": "{n} 张图像，{classes} 个类别；{found}。",
    "Images of each class, in the order of the class indices": "各类别的图像数，按类别序号排列",
    "images": "图像",
    "index": "序号",
    "class": "类别",
    "Fix": "处理",
    "{source} says class_num: {n}": "{source} 中 class_num: {n}",
    "one folder per class, with only image files in it, and the same classes in every split": "每个类别一个文件夹，其中只有图像文件；每个划分的类别相同",
}
# fmt: on
