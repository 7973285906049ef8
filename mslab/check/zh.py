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
        "(images from column {image}, labels from column {label})": "（图像取自列 {image}，标签取自列 {label}）",
        "(images from column {image}, labels from the columns {labels} (1 in one of them))":
            "（图像取自列 {image}，标签取自各列 {labels}（其中一列为 1））",
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
# fmt: on
