"""The check of labels (boxes, masks, key points, tags) in Chinese: see zh.py and zh_fixes.py, of which this is a part."""

# fmt: off
MESSAGES: dict[str, dict[str, str]] = {
    "label-file": {
        "(it cannot be read, line {line}: {reason})": "（无法读取，第 {line} 行：{reason}）",
        "(it cannot be read: {reason})": "（无法读取：{reason}）",
        "(it has no list {names}, as COCO's files do)": "（缺少 COCO 文件应有的列表 {names}）",
        "(it has no column beside that of the images)": "（除图像列之外没有其他列）",
        "(two of its columns are called {name})": "（有两列都叫 {name}）",
        "(it has {n} columns)": "（有 {n} 列）",
    },
    "label-field": {
        "(categories[{n}] has no id: {value})": "（categories[{n}] 没有 id：{value}）",
        "(images[{n}] has no id: {value})": "（images[{n}] 没有 id：{value}）",
        "(images[{n}] has no file_name: {value})": "（images[{n}] 没有 file_name：{value}）",
        "(annotations[{n}] has no id: {value})": "（annotations[{n}] 没有 id：{value}）",
        "(a file_name is no name of a file: {value})": "（file_name 不是文件名：{value}）",
    },
    "label-value": {
        "(the box of the object {key} is not four numbers of pixels: {value})": "（目标 {key} 的框不是四个像素值：{value}）",
        "(a key point of the object {key} is no number of pixels)": "（目标 {key} 的一个关键点不是像素值）",
    },
    "duplicate-id": {
        "(two categories have the id {key})": "（两个类别的 id 都是 {key}）",
        "(two images have the id {key})": "（两张图像的 id 都是 {key}）",
        "(two entries are of this image)": "（这张图像有两个条目）",
        "(two objects have the id {key})": "（两个目标的 id 都是 {key}）",
    },
    "category-name": {
        "(the category with the id {key} has no name)": "（id 为 {key} 的类别没有名称）",
        "(two categories are called {name})": "（两个类别都叫 {name}）",
    },
    "category-ids": {
        "(the id of its category is {key}; as a class: 0)": "（唯一类别的 id 是 {key}；类别序号为 0）",
        "(the ids of its {n} categories are {first} to {last}, with gaps; as classes: from 0)": "（{n} 个类别的 id 从 {first} 到 {last}，有空缺；类别序号从 0 开始）",
        "(the ids of its {n} categories are {first} to {last}; as classes: from 0)": "（{n} 个类别的 id 从 {first} 到 {last}；类别序号从 0 开始）",
    },
    "category-unknown": {
        "(the object {key} is of a category that is not listed: {value})": "（目标 {key} 的类别不在列表中：{value}）",
    },
    "category-list": {
        "(its {_noun} are not those of {first}: it lacks {lacking} and has {more} besides)": "（{_noun}与 {first} 不同：缺少 {lacking}，多出 {more}）",
        "(its {_noun} are not those of {first}: it lacks {lacking})": "（{_noun}与 {first} 不同：缺少 {lacking}）",
        "(its {_noun} are not those of {first}: it has {more} besides)": "（{_noun}与 {first} 不同：多出 {more}）",
    },
    "category-order": {
        "(its {_noun} are in another order than in {first}: mslab goes by their names, others by their numbers)": "（{_noun}的顺序与 {first} 不同：mslab 按名称对应，其他工具按编号）",
        "(the ids of its {_noun} are not those of {first}: mslab goes by their names, others by their numbers)": "（{_noun}的 id 与 {first} 不同：mslab 按名称对应，其他工具按编号）",
    },
    "empty-category": {
        "({n} of {all} classes have no object: {names})": "（{all} 个类别中有 {n} 个没有目标：{names}）",
    },
    "image-unknown": {
        "(the object {key} is of an image that is not listed: image_id {value})": "（目标 {key} 的图像不在列表中：image_id {value}）",
    },
    "image-missing": {
        "(the labels name it, and there is no such image; links are not followed)": "（标注中有它，但没有这张图像；不跟随链接）",
    },
    "image-size": {
        "(its entry has no width and height: {value})": "（条目没有宽和高：{value}）",
    },
    "file-name": {
        "(its file_name has the \\ of Windows: {name}; read as /)": "（file_name 含有 Windows 的 \\：{name}；按 / 读取）",
        "(its file_name is {name}: the folder is not there)": "（file_name 为 {name}：那个文件夹不存在）",
    },
    "unsafe-path": {
        "(a file_name leads out of the folder of the images: {name})": "（file_name 指向图像文件夹之外：{name}）",
    },
    "wrong-size": {
        "(the labels say {said} pixels, and it has {stored}: they are of another image, or it was resized)": "（标注记录为 {said} 像素，实际为 {stored}：标注属于另一张图像，或图像被缩放过）",
    },
    "turned-image": {
        "(EXIF orientation {n}: viewers turn the image, training reads it as it is stored; {_where})": "（EXIF 方向 {n}：看图软件会旋转图像，训练按存储的样子读取；{_where}）",
    },
    "format": {
        "({name}: MindSpore does not decode it)": "（{name}：MindSpore 不能解码）",
    },
    "image-without-label": {
        "({n} of {all} images have no labels, such as {name})": "（{all} 张图像中有 {n} 张没有标注，例如 {name}）",
    },
    "no-labels": {
        "(no image has labels)": "（没有一张图像有标注）",
        "(no image has an object)": "（没有一张图像有目标）",
    },
    "object-count": {
        "({n} objects in one image, and mslab learns at most {most})": "（一张图像中有 {n} 个目标，mslab 最多学习 {most} 个）",
    },
    "no-object": {
        "({n} of {all} images have no object: they are learned as ground)": "（{all} 张图像中有 {n} 张没有目标：它们作为背景学习）",
    },
    "box-unit": {
        "(all {n} boxes are between 0 and 1: fractions of the image, and not pixels)": "（全部 {n} 个框都在 0 到 1 之间：是图像的比例，不是像素）",
    },
    "box-corners": {
        "(all {n} boxes fit their images as [left, top, right, bottom], and {some} of them leave it as [left, top, width, height], which COCO has)": "（全部 {n} 个框按 [左, 上, 右, 下] 都在图像内，而按 COCO 的 [左, 上, 宽, 高] 有 {some} 个超出图像）",
    },
    "box-empty": {
        "(the box of the object {key} is {w} wide and {h} high: nothing is in it)": "（目标 {key} 的框宽 {w}、高 {h}：里面什么也没有）",
    },
    "box-outside": {
        "(the object {key} is not in it: left {x}, top {y}, right {right}, bottom {bottom}, of {size} pixels)": "（目标 {key} 不在图像内：左 {x}，上 {y}，右 {right}，下 {bottom}，图像为 {size} 像素）",
    },
    "box-border": {
        "(the object {key} leaves it: left {x}, top {y}, right {right}, bottom {bottom}, of {size} pixels; the box is cut at the border)": "（目标 {key} 超出图像：左 {x}，上 {y}，右 {right}，下 {bottom}，图像为 {size} 像素；框在边缘处截断）",
    },
    "box-mask": {
        "(the mask of the object {key} is not where its box is: {inner} and {outer} (left, top, right, bottom))": "（目标 {key} 的掩膜与框位置不符：{inner} 与 {outer}（左、上、右、下））",
    },
    "duplicate-box": {
        "(two objects have the class and box of {key})": "（有两个目标的类别和框都与 {key} 相同）",
    },
    "mask-region": {
        "(the mask of the object {key} cannot be read: {reason})": "（目标 {key} 的掩膜无法读取：{reason}）",
        "(the mask of the object {key} is empty)": "（目标 {key} 的掩膜是空的）",
    },
    "mask-size": {
        "({own} pixels, and its image has {size})": "（{own} 像素，而图像为 {size}）",
    },
    "mask-format": {
        "(a {name}: it smears the values of classes at every edge)": "（{name} 格式：会在每条边缘处混淆类别的值）",
    },
    "mask-mode": {
        "(mode {name}: colours, and not the numbers of classes)": "（模式 {name}：是颜色，不是类别编号）",
    },
    "mask-value": {
        "({n} different values: a photo, or a mask that was resized with smoothing)": "（有 {n} 种不同的值：是照片，或缩放时做了平滑的掩膜）",
        "(only 0 and 255: 255 is what is ignored, so that nothing but ground is learned)": "（只有 0 和 255：255 表示忽略，因此只学到背景）",
        "(the value {values}, and there are {n} classes: 0 is the ground, 255 is ignored)": "（出现值 {values}，而类别有 {n} 个：0 为背景，255 为忽略）",
    },
    "mask-without-image": {
        "(its image has another mask, too)": "（它的图像还有另一个掩膜）",
        "(there is no image of this name)": "（没有这个名称的图像）",
    },
    "image-without-mask": {
        "({n} of {all} images have no mask, such as {name})": "（{all} 张图像中有 {n} 张没有掩膜，例如 {name}）",
    },
    "keypoint-count": {
        "(the object {key} has {n} values, and not 3 for each of the {all} key points of {name})": "（目标 {key} 有 {n} 个值，而 {name} 的 {all} 个关键点每个应有 3 个）",
        "(the object {key} has {n} key points, and its num_keypoints is {said})": "（目标 {key} 有 {n} 个关键点，而 num_keypoints 为 {said}）",
    },
    "keypoint-visibility": {
        "(a key point of the object {key} has the visibility {value}, and not 0, 1 or 2)": "（目标 {key} 的一个关键点的可见性为 {value}，不是 0、1 或 2）",
    },
    "keypoint-outside": {
        "(the key point {name} of the object {key} is not in it, and its visibility is not 0)": "（目标 {key} 的关键点 {name} 不在图像内，而可见性不是 0）",
    },
    "keypoint-names": {
        "(the key points of {name} are not those of {first}, or in another order)": "（{name} 的关键点与 {first} 不同，或顺序不同）",
    },
    "keypoint-order": {
        "({left} and {right} of a {name} are the other way round than in nearly all others)": "（一个 {name} 的 {left} 和 {right} 与几乎所有其他目标相反）",
    },
    "duplicate-row": {
        "(line {n} names it again)": "（第 {n} 行再次出现）",
    },
    "tag-value": {
        "(line {n} has {some} values for {all} tags)": "（第 {n} 行有 {some} 个值，而标签有 {all} 个）",
        "(line {n}: {tag} is {value}, and not 0 or 1)": "（第 {n} 行：{tag} 为 {value}，不是 0 或 1）",
    },
    "tag-constant": {
        "({tag} is {value} in all {n} images: nothing can be learned or measured)": "（{tag} 在全部 {n} 张图像中都是 {value}：无法学习，也无法评估）",
    },
}
MORE = {"and more of this kind, which are not listed": "以及更多同类问题，不再列出"}  # of every code
PHRASES = {  # inside of messages
    "classes": "类别",
    "tags": "标签",
    "the labels are of the turned image": "标注对应旋转后的图像",
    "the labels have the size of the stored one": "标注的尺寸与存储的图像相同",
    "the labels have neither size": "标注的尺寸与两者都不同",
}
FIXES = {
    "{command}    keeps its boxes, as COCO's JSON": "{command}    保留它的框，存为 COCO 的 JSON",
    "{command}    checks its boxes": "{command}    检查它的框",
    "replace the file, or export the labels again": "替换这个文件，或重新导出标注",
    "correct the entry, or export the labels again": "改正条目，或重新导出标注",
    "correct the number, or remove the object": "改正数值，或删除这个目标",
    "cut the image into smaller ones, or export the labels again: the objects of others may be in it": "把图像切成更小的，或重新导出标注：其中可能有别的图像的目标",
    "give each entry an id of its own, or remove the copy": "给每个条目自己的 id，或删除重复的",
    "give each category a name of its own": "给每个类别自己的名称",
    "nothing: classes are numbered in the order of the ids": "无需处理：类别按 id 的顺序编号",
    "list the category, or correct the object's category_id": "把类别写进列表，或改正目标的 category_id",
    "list the image, or remove the object": "把图像写进列表，或删除这个目标",
    "put the image there, or remove its entry and its objects": "把图像放到那里，或删除它的条目和目标",
    "write its width and height in pixels": "写上宽和高，单位为像素",
    "nothing, if it is this image; or write the name relative to the folder of the images, with /": "如果就是这张图像，则无需处理；或写成相对于图像文件夹的名称，用 / 分隔",
    "write the name relative to the folder of the images": "写成相对于图像文件夹的名称",
    "multiply left and width by the image's width, top and height by its height": "把左和宽乘以图像的宽，上和高乘以图像的高",
    "write width and height: right - left and bottom - top": "改写为宽和高：右 - 左，下 - 上",
    "remove the object, or exchange its corners": "删除这个目标，或交换它的两角",
    "remove the object, or correct its box": "删除这个目标，或改正它的框",
    "nothing, if the object is cut off there; else correct its box": "如果目标在那里被截断，则无需处理；否则改正它的框",
    "correct the box or the mask: one of them may be of another object, or in another scale": "改正框或掩膜：其中之一可能属于别的目标，或比例不同",
    "remove one of them": "删除其中一个",
    "export the mask again, or remove the segmentation of the object": "重新导出掩膜，或删除这个目标的 segmentation",
    "write x, y and visibility for each of the category's keypoints, and count those above 0": "为类别的每个关键点写上 x、y 和可见性，并统计大于 0 的个数",
    "write 0 (not labelled), 1 (hidden) or 2 (visible)": "写 0（未标注）、1（被遮挡）或 2（可见）",
    "write 0, 0, 0 for a point that is not in the image": "不在图像内的点写 0, 0, 0",
    "remove one of the rows": "删除其中一行",
    "write 0 or 1; leave the row out if a tag is not known": "写 0 或 1；如果不知道某个标签，就去掉这一行",
    "replace it, or remove it and its labels": "替换它，或连同标注一起删除",
    "save it as JPEG or PNG, and write the new name into the labels": "另存为 JPEG 或 PNG，并把新名称写进标注",
    "use the image that was labelled, or scale the labels": "使用标注时的图像，或缩放标注",
    "store the pixels upright if the labels fit the turned image, else remove the orientation": "如果标注对应旋转后的图像，就把像素转正存储；否则去掉方向信息",
    "add them to the labels, also those without an object; or move them away": "把它们写进标注，没有目标的也写；或把它们移走",
    "put the images there, or correct the names in the labels": "把图像放到那里，或改正标注中的名称",
    "label some objects, or export the labels again": "标注一些目标，或重新导出标注",
    "nothing, if nothing is on them": "如果上面确实没有目标，则无需处理",
    "use one list of categories in all files": "所有文件使用同一个类别列表",
    "label some, or take the class out of the list": "标注一些，或从列表中去掉这个类别",
    "exchange them, if they are; nothing, if the object is turned": "如果确实写反了，就交换；如果目标转了方向，则无需处理",
    "add images of the other kind, or leave the column out": "添加另一种图像，或去掉这一列",
    "remove it and its labels from one of the splits": "从其中一个划分中删除它和它的标注",
    "remove one of them and its labels": "删除其中一张和它的标注",
    "export the mask again, or remove it and its image": "重新导出掩膜，或连同图像一起删除",
    "export it in the size of the image; if it is resized, without smoothing (nearest neighbour)": "按图像的尺寸导出；如需缩放，不要平滑（最近邻）",
    "export the masks as PNG; a JPEG that is saved as PNG stays smeared": "把掩膜导出为 PNG；JPEG 另存为 PNG 仍是混淆的",
    "export it with a palette, or with the number of the class as its grey value": "用调色板导出，或以类别编号作为灰度值",
    "export the masks again, without smoothing": "重新导出掩膜，不要平滑",
    "write 1 for the object": "目标写 1",
    "correct the values, or list the class": "改正这些值，或把类别写进列表",
    "add the masks, also of images with nothing but ground": "补上掩膜，只有背景的图像也要",
}
# fmt: on
