"""The first part of the schema: settings of the data and of augmentation."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mslab.config.kinds import Groups, Mean, Names, Pixels, Std

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # per channel, on a scale of 0 to 1


class DataSettings(BaseModel):
    """Settings of the data, immutable. Types are strict: "9" in quotes is text, not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    # data
    task: Literal["classify", "multilabel", "segment", "keypoints", "detect"] = Field(
        "classify",
        description="what the network says of an image: classify = its class, multilabel = its tags, segment = the "
        "class of every pixel, keypoints = points of each object, detect = boxes around objects. All but classify read "
        "labels beside the images: COCO's JSON, pictures of classes or a table of tags (docs/labels.md)",
    )
    train_data: str = Field(
        description="training images: a folder with one folder per class, or a table of labels; for other tasks a "
        "folder with labels"
    )
    val_data: str = Field(description="validation images in the same layout; they decide which epoch becomes best.ckpt")
    follow_links: bool = Field(
        False, description="read the files and folders elsewhere that symbolic links in the data lead to"
    )
    ignore: list[Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)*$")]] = Field(
        [],
        description="files and folders of the data that are left out, by name at any level, or by path in the split: "
        '[".snapshot", "lost+found", "Agaricus/0001.jpg"]',
    )
    class_num: int = Field(
        ge=1,
        le=100_000,
        description="number of classes, 2 or more; must equal the number of class folders. Of other tasks: number of "
        "classes (without the ground), tags or key points, 1 or more",
    )
    classes: Annotated[Names, Field(min_length=2)] | None = Field(
        None,
        description="the classes to train on, by the names of their folders or of their groups in merge: [Amanita, "
        "Russula]; all other folders are left out. Their order changes nothing. null = every folder",
    )
    merge: Groups = Field(
        {},
        description="class: the folders that are its images, such as {poisonous: [Amanita, Entoloma], edible: "
        "[Boletus]}; no file is copied. A folder in no group is an error, unless classes says whether it is a class",
    )
    image_size: int = Field(
        64,
        ge=16,
        le=1024,
        description="pixels; side of the square image that the network receives. Time grows with its square",
    )
    batch_size: int = Field(
        32,
        ge=2,
        le=65536,
        description="images per step on one device, 2 or more for BatchNorm; halve it if memory runs out",
    )
    validation_batch_size: int | None = Field(
        None,
        ge=2,
        le=65536,
        description="images per step in evaluation; null = batch_size. Results do not depend on it",
    )
    rescale_train_batch_size_factor: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="limits the images per step of all workers together to all images / this factor; 10 = a tenth",
    )
    label_balance: bool = Field(
        False, description="every batch has equally many images of every class: images of rare classes repeat"
    )
    data_workers: int = Field(
        2,
        ge=1,
        le=256,
        description="threads that decode and augment, at most one per core; another number draws other augmentation",
    )
    cache: Literal["auto", "none", "memory", "disk"] = Field(
        "auto",
        description="where images are stored after they are decoded once at the start, so that epochs skip decoding; "
        "3 bytes per pixel of every image: memory = in this process, disk = in ~/.cache/mslab/decoded (at most "
        "64 GiB), auto = memory if they take at most 1 GiB and a quarter of what is free, else none. Batches are equal",
    )
    resize_mode: Literal["crop", "pad", "squash"] = Field(
        "crop",
        description="how an image becomes square: crop = the middle square, the rest is cut away; pad = all of it, "
        "with bars in the colour of mean; squash = all of it, stretched. In training, the random crop is then taken "
        "from the padded or stretched image",
    )
    # augmentation of the training images
    train_crop_size: Pixels | None = Field(None, description="pixels; side of a training crop. null = image_size")
    valid_resize_size: Pixels | None = Field(
        None, description="pixels; shorter side of an image before its centre is evaluated. null = image_size"
    )
    valid_crop_size: Pixels | None = Field(
        None, description="pixels; side of the centre crop that is evaluated. null = image_size"
    )
    crop_scale: float = Field(
        0.5,
        gt=0,
        le=1,
        description="smallest fraction of an image's area that a random training crop covers; 1 = no crop",
    )
    flip: bool = Field(True, description="mirror half of the training images left to right")
    color_jitter: float = Field(
        0.2, ge=0, le=1, description="largest relative change of brightness, contrast and saturation; 0 = none"
    )
    vertical_flip: bool = Field(False, description="mirror half of the training images top to bottom")
    auto_augment: Literal["none", "autoaugment", "randaugment", "trivialaugment"] = Field(
        "none", description="a policy of random operations on training images (Cubuk 2019, 2020; Müller & Hutter 2021)"
    )
    random_erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of the training images from which a random rectangle is erased (Zhong 2020)",
    )
    mixup_alpha: float = Field(
        0.0,
        ge=0,
        le=100,
        description="0 = off; mixes pairs of images and labels with weights from Beta(a, a); usually 0.2 (Zhang 2018)",
    )
    cutmix_alpha: float = Field(
        0.0,
        ge=0,
        le=100,
        description="0 = off; pastes a rectangle of another image, its area from Beta(a, a); usually 1 (Yun 2019)",
    )
    transform_normalize: bool = Field(
        True, description="(image/255 - mean)/std; false = image - 255 mean, not divided, as in ModelArts"
    )
    mean: Mean = Field(
        IMAGENET["mean"],
        description="per channel, on a scale of 0 to 1; subtracted from every image (default: ImageNet's)",
    )
    std: Std = Field(
        IMAGENET["std"],
        description="per channel, on a scale of 0 to 1; every image is divided by it (default: ImageNet's)",
    )
