"""The schema: every setting once, with its range, its default, its unit and its effect."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Stage = Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=3, max_length=3)]
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
Epoch = Annotated[str, BeforeValidator(lambda n: str(n) if type(n) is int else n), Field(pattern=r"^([2-9]|[1-9]\d+)$")]
Part = Annotated[str, Field(pattern=r"^(backbone|stem|layer[1-9]\d*|head)$")]
Epochs = Annotated[
    str,
    BeforeValidator(lambda e: ",".join(map(str, e)) if isinstance(e, list) else str(e) if type(e) is int else e),
    Field(pattern=r"^\s*[1-9]\d*(\s*,\s*[1-9]\d*)*\s*$"),
]
Strategy = Annotated[str, BeforeValidator(lambda rate: str(rate) if type(rate) in (int, float) else rate)]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # of its images, per channel, 0 to 1
Pixels = Annotated[int, Field(ge=16, le=1024)]


class Profile(BaseModel):
    """How a network is built beyond its table of stages; other projects' files bring their own."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
    block: Literal["bottleneck", "basic"] = "bottleneck"
    padding: Literal["symmetric", "same"] = "symmetric"
    pool: Literal["symmetric", "same"] = "symmetric"
    stem: Literal["imagenet", "small"] = "imagenet"
    eps: float = Field(1e-5, gt=0, le=0.1)
    outer_eps: float = Field(1e-5, gt=0, le=0.1)


class Settings(BaseModel):
    """All settings, frozen. Types are strict: "9" in quotes is text, not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    # data
    train_data: str = Field(description="folder with one folder of images a class, to train on")
    val_data: str = Field(
        description="folder laid out alike, to measure on after every epoch and to choose best.ckpt by"
    )
    class_num: int = Field(ge=2, le=100_000, description="number of classes; must equal the number of class folders")
    image_size: int = Field(
        64, ge=16, le=1024, description="pixels; side of the square that the network sees. Time grows with its square"
    )
    batch_size: int = Field(
        32,
        ge=2,
        le=65536,
        description="images per step on one device, 2 or more for BatchNorm; halve it if memory runs out",
    )
    validation_batch_size: int | None = Field(
        None, ge=2, le=65536, description="images a step when measuring; null = batch_size. It changes no figure"
    )
    rescale_train_batch_size_factor: int | None = Field(
        None, ge=1, le=1_000_000, description="batch_size of all workers at most images divided by it; 10 = a tenth"
    )
    label_balance: bool = Field(
        False, description="every batch holds every class equally often: images of rare classes come more than once"
    )
    data_workers: int = Field(
        2,
        ge=1,
        le=256,
        description="threads that decode and augment, at most the cores; another number draws other augmentation",
    )
    cache: Literal["none", "memory", "disk"] = Field(
        "none",
        description="where decoded images are kept after the first pass, so that later ones need no decoder; "
        "3 bytes a pixel of every image: memory = this process's, disk = ~/.cache/mslab/decoded (at most 64 GiB)",
    )
    # augmentation of the training images
    train_crop_size: Pixels | None = Field(None, description="pixels; side of a training crop. null = image_size")
    valid_resize_size: Pixels | None = Field(
        None, description="pixels; an image's shorter side before the middle is measured. null = image_size"
    )
    valid_crop_size: Pixels | None = Field(
        None, description="pixels; side of the middle that is measured. null = image_size"
    )
    crop_scale: float = Field(
        0.5, gt=0, le=1, description="smallest share of an image's area that a random training crop keeps; 1 = no crop"
    )
    flip: bool = Field(True, description="mirror half of the training images left to right")
    color_jitter: float = Field(
        0.2, ge=0, le=1, description="largest relative change of brightness, contrast and saturation; 0 = none"
    )
    vertical_flip: bool = Field(False, description="turn half of the training images upside down")
    auto_augment: Literal["none", "autoaugment", "randaugment", "trivialaugment"] = Field(
        "none", description="a policy of random operations on training images (Cubuk 2019, 2020; Müller & Hutter 2021)"
    )
    random_erasing: float = Field(
        0.0, ge=0, le=1, description="share of training images from which a random rectangle is cut (Zhong 2020)"
    )
    mixup_alpha: float = Field(
        0.0,
        ge=0,
        le=100,
        description="0 = off; images and labels are mixed, shares of Beta(a, a); usual 0.2 (Zhang 2018)",
    )
    cutmix_alpha: float = Field(
        0.0,
        ge=0,
        le=100,
        description="0 = off; a rectangle is another image's, its area of Beta(a, a); usual 1 (Yun 2019)",
    )
    transform_normalize: bool = Field(
        True, description="(image/255 - mean)/std; false = image - 255 mean, undivided, as ModelArts has it"
    )
    mean: Triple = Field(
        IMAGENET["mean"], description="per channel, on a scale of 0 to 1; subtracted from every image (ImageNet's)"
    )
    std: Triple = Field(
        IMAGENET["std"],
        description="per channel, on a scale of 0 to 1; every image is divided by it (ImageNet's)",
    )
    # network
    stages: list[Stage] | None = Field(
        None,
        description="rows of blocks, width, stride, in place of model.STAGES; null = ResNet-50's (or the backbone's)",
    )
    profile: Profile | None = Field(
        None, description="block, padding, pool, eps, outer_eps of model.PROFILE; null = mslab's (or the backbone's)"
    )
    stem: Literal["imagenet", "small"] | None = Field(
        None, description="small = one 3x3 convolution, no pooling, for images below 64 pixels; null = imagenet's 7x7"
    )
    head_hidden: int = Field(0, ge=0, le=65536, description="width of one more layer in the head; 0 = none")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the features that each training step leaves out; others after a resume"
    )
    # transfer: what is kept
    freeze: Literal["none", "all"] = Field(
        "none", description="'all' keeps the backbone fixed (BatchNorm statistics too), 'none' trains everything"
    )
    layers_to_freeze: int = Field(
        0,
        ge=0,
        le=100,
        description="groups kept fixed from the image on: 1 = stem, 2 = stem and layer1, 5 = stem and all four",
    )
    freeze_layer_pattern: str | None = Field(
        None, description="parameters whose names this regular expression finds are kept fixed: ^(conv1|bn1|layer1)\\."
    )
    unfreeze: dict[Epoch, Part] = Field(
        {}, description="epoch, 2 or later: part trained from then on, such as {3: layer4, 6: backbone}"
    )
    lr_scale: dict[Part, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {},
        description="part: factor on its learning rate, such as {backbone: 0.1}; 0 is refused: it would not freeze",
    )
    feature_views: int = Field(
        2,
        ge=0,
        le=1000,
        description="whole backbone frozen: augmented views of an image whose features are kept; 0 = anew every epoch",
    )
    # learning rate
    epochs: int = Field(12, ge=1, le=100_000, description="passes over train_data")
    lr_scheduler: Literal["warmup_cosine", "step", "one_cycle", "constant", "plateau", "strategy"] | None = Field(
        None, description="how the rate goes on after warmup; null = by the settings below, else warmup_cosine"
    )
    warmup_epochs: float = Field(
        2,
        ge=0,
        description="epochs in which the learning rate rises step by step from lr_init to lr_max; 0.5 is half an epoch",
    )
    lr_init: float = Field(0.01, ge=0, le=100, description="learning rate of the first warmup step")
    lr_max: float = Field(0.1, gt=0, le=100, description="learning rate after warmup; lower it if the loss explodes")
    lr_end: float = Field(0.0, ge=0, le=100, description="learning rate that a cosine falls to")
    cosine_cycles: float = Field(
        0.5, gt=0, le=100, description="waves of the cosine: 0.5 falls to lr_end, 1.5 also rises and falls again"
    )
    step_lr_gamma: float = Field(0.5, gt=0, le=1, description="step: factor after every step_lr_step_size epochs")
    step_lr_step_size: int = Field(5, ge=1, le=100_000, description="step: epochs from one fall to the next")
    lr_scheduler_step: Epochs | None = Field(
        None, description="step: epochs after which the rate falls, such as 10,20, in place of step_lr_step_size"
    )
    lr_scheduler_factor: float = Field(
        0.1, gt=0, lt=1, description="factor on the rate at each of lr_scheduler_step, and of plateau"
    )
    plateau_patience: int = Field(
        3, ge=1, le=100_000, description="plateau: evaluations without a better val_acc before the rate falls"
    )
    lr_floor: float | None = Field(
        None, gt=0, le=100, description="plateau: the run ends where the rate would fall below; null = lr_max / 1024"
    )
    learning_rate_strategy: Strategy | None = Field(
        None, description="ModelArts': 5:0.01->0.1,20:0.1~>0.001; linear ->, exponential =>, cosine ~>; 0.002 = plateau"
    )
    # optimizer
    optimizer: Literal["sgd", "momentum", "adam", "adamw", "radam", "rmsprop", "adadelta", "lamb"] = Field(
        "momentum", description="momentum = SGD with momentum; adam and its kin need a lr_max of about 0.001"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last update that the next one keeps")
    nesterov: bool = Field(False, description="momentum looks one update ahead")
    beta1: float = Field(0.9, ge=0, lt=1, description="adam and its kin: share of the mean gradient that is kept")
    beta2: float = Field(0.999, ge=0, lt=1, description="adam and its kin: share of the mean square that is kept")
    amsgrad: bool = Field(False, description="adam divides by the largest mean square so far (Reddi 2018)")
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="pull of the weights towards zero; BatchNorm and biases are left out"
    )
    clip_grad_norm: float = Field(
        0.0, ge=0, description="gradients that are longer together are shortened to this length; 0 = never"
    )
    grad_accumulation_step: int = Field(
        1, ge=1, le=100_000, description="batches whose mean gradient makes one update; BatchNorm sees each by itself"
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="0 = off; 0.999 measures and keeps a running mean of the weights with this share"
    )
    # loss
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of every label that is spread over all classes")
    weighted_loss: Literal[0, 1, 2] = Field(
        0, description="2 weighs classes by images / (classes x images of the class), 1 by its square root, 0 all alike"
    )
    focal_gamma: float = Field(
        0.0, ge=0, le=10, description="0 = off; 2 lets images that are known already count less (Lin 2017)"
    )
    ohem_top_ratio: float = Field(
        1.0, gt=0, le=1, description="share of each batch, the hardest images, that counts (Shrivastava 2016); 1 = all"
    )
    # evaluating and stopping
    do_eval_along_train: bool = Field(True, description="false = measure after the last epoch only")
    evaluation_frequency: int = Field(1, ge=1, le=100_000, description="epochs from one evaluation to the next")
    checkpoint_frequency: int = Field(1, ge=1, le=100_000, description="epochs from one last.ckpt to the next")
    early_stopping: bool = Field(False, description="end the run where val_acc has stopped getting better")
    early_stopping_patience: int = Field(
        5, ge=1, le=100_000, description="evaluations without a better val_acc, after which it ends"
    )
    early_stopping_delay: int = Field(0, ge=0, le=100_000, description="evaluations before that counting begins")
    early_stopping_min_epochs: int = Field(0, ge=0, le=100_000, description="epochs that are trained in any case")
    early_stopping_tolerance: float = Field(
        0.0, ge=0, le=1, description="share of the best val_acc by which a better one has to exceed it"
    )
    target_accuracy: float | None = Field(None, gt=0, le=1, description="val_acc at which the run ends")
    target_loss: float | None = Field(None, gt=0, description="val_loss at which the run ends")
    max_training_time: float | None = Field(
        None, gt=0, description="hours of one call; it saves and leaves in time, and --resume goes on"
    )
    on_nan: Literal["stop", "rollback"] = Field(
        "stop", description="loss not finite: rollback repeats the epoch at a tenth of the rate, at most three times"
    )
    seed: int = Field(
        1,
        ge=0,
        le=2**31 - 1,
        description="drives weights, data order, augmentation and mixing; equal seed, equal run; null draws one",
    )
    deterministic: bool = Field(
        False,
        description="GPU and Ascend: MindSpore's operators that repeat their last bits; slower. A CPU's do always",
    )
    # logging
    log_to: Literal["none", "tensorboard"] = Field(
        "none",
        description="besides history.csv: tensorboard = figures, first batch, histograms of weights and "
        "precision-recall curves of each epoch as event files in RUN/tensorboard/",
    )
    # machine
    device: Literal["auto", "cpu", "gpu", "ascend"] = Field("auto", description="auto = the best that works here")
    sync_bn: bool = Field(
        False, description="with --workers: BatchNorm over the images of all workers, not of each by itself; slower"
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "none", description="with --workers N: lr_max as it is, times N, or times the square root of N"
    )
    amp_level: Literal["auto", "O0", "O2", "O3"] = Field(
        "O0", description="O0 = float32; O2 = float16 but for BatchNorm, O3 = all float16; auto = O2, on a CPU O0"
    )
    jit_level: Literal["auto", "O0", "O1", "O2"] = Field(
        "auto", description="how far MindSpore's compiler goes in graph mode; auto = what it takes for the device"
    )
    max_device_memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?GB$")] | None = Field(
        None, description="most memory MindSpore takes on the device, such as 28GB; null = all that is free"
    )
    mode: Literal["graph", "pynative"] = Field(
        "graph", description="graph compiles one step (fast); pynative runs line by line (slow, for a debugger)"
    )
    max_to_keep: int = Field(
        0, ge=0, le=1000, description="checkpoints of this many best epochs, kept beside best.ckpt and last.ckpt"
    )

    def replace(self, **changes: Any) -> "Settings":
        """The same settings but for these. Raises ValidationError where one is unknown or out of range."""
        return type(self)(**(self.model_dump() | changes))

    def network_profile(self) -> dict[str, Any]:
        """`profile` as model.py takes it; empty where it is not said."""
        return self.profile.model_dump() if self.profile else {}


FIELDS = Settings.model_fields
