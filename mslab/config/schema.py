"""The schema: every setting with range, default, unit and effect."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from mslab.config.kinds import BestBy, Epoch, Epochs, Groups, Mean, Names, Part, Pixels, Profile, Stages, Std, Strategy
from mslab.config.origins import COMMAND_LINE, SettingOrigin

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # per channel, on a scale of 0 to 1


class Settings(BaseModel):
    """All settings, immutable. Types are strict: "9" in quotes is text, not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
    _origins: dict[str, SettingOrigin] = PrivateAttr(default_factory=dict)  # of the settings that were written

    # data
    train_data: str = Field(description="training images: a folder with one folder per class, or a table of labels")
    val_data: str = Field(description="validation images in the same layout; they decide which epoch becomes best.ckpt")
    follow_links: bool = Field(
        False, description="read the files and folders elsewhere that symbolic links in the data lead to"
    )
    ignore: list[Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)*$")]] = Field(
        [],
        description="files and folders of the data that are left out, by name at any level, or by path in the split: "
        '[".snapshot", "lost+found", "Agaricus/0001.jpg"]',
    )
    class_num: int = Field(ge=2, le=100_000, description="number of classes; must equal the number of class folders")
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
    # network
    stages: Stages = Field(
        None,
        description="rows of blocks, width, stride that replace model.STAGES; null = ResNet-50's (or the backbone's)",
    )
    profile: Profile | None = Field(
        None,
        description="block, padding, pool, eps, outer_eps that replace model.PROFILE; null = mslab's (or the "
        "backbone's)",
    )
    stem: Literal["imagenet", "small"] | None = Field(
        None, description="small = one 3x3 convolution, no pooling, for images below 64 pixels; null = imagenet's 7x7"
    )
    head_hidden: int = Field(0, ge=0, le=65536, description="width of one additional layer in the head; 0 = none")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the features that each training step drops; a resumed run drops others",
    )
    # transfer: what is frozen
    freeze: Literal["none", "all"] = Field(
        "none", description="'all' freezes the backbone (BatchNorm statistics too), 'none' trains everything"
    )
    layers_to_freeze: int = Field(
        0,
        ge=0,
        le=100,
        description="number of groups to freeze, counted from the input: 1 = stem, 2 = stem and layer1, 5 = stem "
        "and all four layers",
    )
    freeze_layer_pattern: str | None = Field(
        None, description="freeze the parameters whose names match this regular expression: ^(conv1|bn1|layer1)\\."
    )
    unfreeze: dict[Epoch, Part] = Field(
        {}, description="epoch, 2 or later: part to train from then on, such as {3: layer4, 6: backbone}"
    )
    lr_scale: dict[Part, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {},
        description="part: factor on its learning rate, such as {backbone: 0.1}; 0 is refused: it would not "
        "freeze the part",
    )
    feature_views: int = Field(
        2,
        ge=0,
        le=1000,
        description="if the backbone is completely frozen: augmented views per image whose features are cached; "
        "0 = compute them in every epoch",
    )
    # learning rate
    epochs: int = Field(12, ge=1, le=100_000, description="passes over train_data")
    lr_scheduler: Literal["warmup_cosine", "step", "one_cycle", "constant", "plateau", "strategy"] | None = Field(
        None, description="learning rate after warmup; null = decided by the settings below, else warmup_cosine"
    )
    warmup_epochs: float = Field(
        2,
        ge=0,
        description="epochs in which the learning rate rises step by step from lr_init to lr_max; 0.5 is half an epoch",
    )
    lr_init: float = Field(0.01, ge=0, le=100, description="learning rate of the first warmup step")
    lr_max: float = Field(0.1, gt=0, le=100, description="learning rate after warmup; lower it if the loss diverges")
    lr_end: float = Field(0.0, ge=0, le=100, description="learning rate at the end of a cosine")
    cosine_cycles: float = Field(
        0.5, gt=0, le=100, description="cycles of the cosine: 0.5 falls to lr_end, 1.5 also rises and falls again"
    )
    step_lr_gamma: float = Field(
        0.5, gt=0, le=1, description="step: factor on the rate after every step_lr_step_size epochs"
    )
    step_lr_step_size: int = Field(
        5, ge=1, le=100_000, description="step: epochs from one reduction of the rate to the next"
    )
    lr_scheduler_step: Epochs | None = Field(
        None, description="step: epochs after which the rate falls, such as 10,20; replaces step_lr_step_size"
    )
    lr_scheduler_factor: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="factor on the rate at each epoch of lr_scheduler_step, and at each reduction of plateau",
    )
    plateau_patience: int = Field(
        3, ge=1, le=100_000, description="plateau: evaluations without a better val_acc (best_by) before the rate falls"
    )
    lr_floor: float | None = Field(
        None,
        gt=0,
        le=100,
        description="plateau: stop the run before the rate would fall below this; null = lr_max / 1024",
    )
    learning_rate_strategy: Strategy | None = Field(
        None,
        description="in ModelArts' notation: 5:0.01->0.1,20:0.1~>0.001; linear ->, exponential =>, cosine ~>; "
        "0.002 = plateau",
    )
    # optimizer
    optimizer: Literal["sgd", "momentum", "adam", "adamw", "radam", "rmsprop", "adadelta", "lamb"] = Field(
        "momentum", description="momentum = SGD with momentum; adam and its variants need an lr_max of about 0.001"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="fraction of the last update that carries over to the next")
    nesterov: bool = Field(False, description="Nesterov momentum: looks one update ahead")
    beta1: float = Field(
        0.9, ge=0, lt=1, description="adam and its variants: decay of the running mean of the gradients"
    )
    beta2: float = Field(
        0.999, ge=0, lt=1, description="adam and its variants: decay of the running mean of the squared gradients"
    )
    amsgrad: bool = Field(
        False, description="adam divides by the largest running mean of squared gradients so far (Reddi 2018)"
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="pulls weights towards zero; BatchNorm and biases are excluded"
    )
    clip_grad_norm: float = Field(
        0.0, ge=0, description="largest norm of all gradients together; longer ones are scaled down to it; 0 = no limit"
    )
    grad_accumulation_step: int = Field(
        1,
        ge=1,
        le=100_000,
        description="batches whose mean gradient makes one update; BatchNorm normalises each batch separately",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="0 = off; 0.999 = evaluate and save an exponential moving average of the weights with this decay",
    )
    # loss
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="fraction of every label that is distributed over all classes"
    )
    weighted_loss: Literal[0, 1, 2] = Field(
        0, description="weight of a class: 2 = images / (classes x images of the class), 1 = its square root, 0 = equal"
    )
    focal_gamma: float = Field(
        0.0,
        ge=0,
        le=10,
        description="0 = off; 2 = images that the network already classifies well count less (Lin 2017)",
    )
    ohem_top_ratio: float = Field(
        1.0,
        gt=0,
        le=1,
        description="fraction of each batch, its hardest images, that the loss uses (Shrivastava 2016); 1 = all",
    )
    # evaluating and stopping
    do_eval_along_train: bool = Field(True, description="false = evaluate after the last epoch only")
    evaluation_frequency: int = Field(1, ge=1, le=100_000, description="epochs from one evaluation to the next")
    checkpoint_frequency: int = Field(1, ge=1, le=100_000, description="epochs from one last.ckpt to the next")
    best_by: BestBy | None = Field(
        None,
        description="measure of the validation images that chooses best.ckpt, and that stopping, plateau and sweeps "
        "follow: accuracy, balanced_accuracy, macro_f1, loss or recall:CLASS; of equal ones the epoch with the lower "
        "val_loss. null = accuracy, of equal ones the earliest epoch",
    )
    calibrate: bool = Field(
        False,
        description="fit a temperature on the validation images (Guo 2017): reliable probabilities, the same classes",
    )
    early_stopping: bool = Field(False, description="stop the run when val_acc (or best_by) no longer improves")
    early_stopping_patience: int = Field(
        5, ge=1, le=100_000, description="evaluations without a better one until it stops"
    )
    early_stopping_delay: int = Field(0, ge=0, le=100_000, description="evaluations before early stopping counts")
    early_stopping_min_epochs: int = Field(0, ge=0, le=100_000, description="epochs that are trained in any case")
    early_stopping_tolerance: float = Field(
        0.0, ge=0, le=1, description="relative improvement over the best so far that a better one has to exceed"
    )
    target_accuracy: float | None = Field(None, gt=0, le=1, description="stop the run when val_acc reaches this")
    target_loss: float | None = Field(None, gt=0, description="stop the run when val_loss falls to this")
    max_training_time: float | None = Field(
        None, gt=0, description="hours of one call; the run saves and stops in time, and --resume continues it"
    )
    on_nan: Literal["stop", "rollback"] = Field(
        "stop",
        description="if the loss is not finite: stop, or rollback: repeat the epoch at a tenth of the rate, at "
        "most three times",
    )
    seed: int = Field(
        1,
        ge=0,
        le=2**31 - 1,
        description="determines weights, data order, augmentation and mixing; equal seeds give equal runs; null "
        "draws one",
    )
    deterministic: bool = Field(
        False,
        description="on a GPU and on Ascend: use MindSpore's deterministic operators; slower. A CPU is always "
        "deterministic",
    )
    # logging
    log_to: Literal["none", "tensorboard"] = Field(
        "none",
        description="besides history.csv: tensorboard = metrics, first batch, histograms of weights and "
        "precision-recall curves of each epoch as event files in RUN/tensorboard/",
    )
    # machine
    device: Literal["auto", "cpu", "gpu", "ascend"] = Field(
        "auto", description="auto = the best that works on this machine"
    )
    engine: Literal["auto", "mindspore", "onnxruntime", "openvino"] = Field(
        "auto",
        description="what computes the features of a frozen backbone, and the report: auto = onnxruntime on a CPU, "
        "MindSpore elsewhere; openvino needs the extra mslab[openvino]. Training and evaluation are MindSpore's",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of engine, not of training (amp_level): bf16 = bfloat16, several times as fast on a CPU with AMX; "
        "needs engine: openvino",
    )
    sync_bn: bool = Field(
        False,
        description="with --workers: BatchNorm over the images of all workers together, not of each worker; slower",
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "none", description="with --workers N: lr_max unchanged, times N, or times the square root of N"
    )
    amp_level: Literal["auto", "O0", "O2", "O3"] = Field(
        "O0", description="O0 = float32; O2 = float16 except BatchNorm, O3 = all float16; auto = O2, on a CPU O0"
    )
    jit_level: Literal["auto", "O0", "O1", "O2"] = Field(
        "auto",
        description="optimisation level of MindSpore's compiler in graph mode; auto = MindSpore's choice for the "
        "device",
    )
    max_device_memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?GB$")] | None = Field(
        None, description="limit of MindSpore's memory on the device, such as 28GB; null = all free memory"
    )
    mode: Literal["graph", "pynative"] = Field(
        "graph", description="graph compiles one step (fast); pynative runs line by line (slow, for a debugger)"
    )
    max_to_keep: int = Field(
        0, ge=0, le=1000, description="number of best epochs whose checkpoints are kept besides best.ckpt and last.ckpt"
    )

    def replace(self, **changes: Any) -> "Settings":
        """Return a copy with these changes. Raises ValidationError if one is unknown or out of range."""
        changed = type(self)(**(self.model_dump() | changes))
        changed._origins = {name: origin for name, origin in self._origins.items() if name not in changes}
        return changed

    def origin(self, name: str) -> str:
        """Where a setting was written, such as "x.yaml, line 3"; "" for a default and for what mslab has decided."""
        return str(self._origins.get(name, ""))

    def said_by(self, name: str) -> str:
        """The same for a sentence: "x.yaml, line 3", "the command line", or "the config" for all others."""
        origin = self._origins.get(name)
        return str(origin) if origin and (origin.line or origin.place == COMMAND_LINE) else "the config"

    def __eq__(self, other: object) -> bool:
        """Equal values, wherever they were written."""
        return isinstance(other, Settings) and vars(self) == vars(other)

    def network_profile(self) -> dict[str, Any]:
        """Return `profile` as model.py expects it; empty if it is not set."""
        return self.profile.model_dump() if self.profile else {}


FIELDS = Settings.model_fields
