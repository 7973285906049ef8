"""Names of settings in other projects: SHARED_NAMES have the same name and meaning here, FOREIGN_NAMES do not."""

# foreign name -> (project, name here); the message about an unknown setting quotes it, nothing is translated silently
FOREIGN_NAMES = {
    # ModelArts
    "train_url": ("ModelArts", "the run folder, always a fresh one under runs/"),
    "data_url": ("ModelArts", "train_data"),
    "checkpoint_url": ("ModelArts", "--backbone FILE"),
    "num_readers": ("ModelArts", "data_workers"),
    "use_mixup": ("ModelArts", "mixup_alpha: 0.2, with 0 for off"),
    "use_cutmix": ("ModelArts", "cutmix_alpha: 1.0, with 0 for off"),
    "use_sync_bn": ("ModelArts", "sync_bn"),
    "gpu_memory_fraction": ("ModelArts", "max_device_memory, in GB"),
    "allow_growth": ("ModelArts", "max_device_memory: memory that is not needed is not allocated"),
    # Azure AutoML for images
    "number_of_epochs": ("Azure AutoML", "epochs"),
    "training_batch_size": ("Azure AutoML", "batch_size"),
    "learning_rate": ("Azure AutoML and SageMaker", "lr_max"),
    "warmup_cosine_lr_cycles": ("Azure AutoML", "cosine_cycles"),
    "warmup_cosine_lr_warmup_epochs": ("Azure AutoML", "warmup_epochs"),
    "checkpoint_run_id": ("Azure AutoML", "--backbone RUN"),
    "checkpoint_dataset_id": ("Azure AutoML", "--backbone FILE"),
    "checkpoint_filename": ("Azure AutoML", "--backbone FILE"),
    # SageMaker
    "num_classes": ("SageMaker", "class_num"),
    "num_training_samples": ("SageMaker", "no setting: mslab counts the images"),
    "base_network": ("SageMaker", "--backbone FILE"),
    "use_pretrained_model": ("SageMaker", "--backbone FILE"),
    "mini_batch_size": ("SageMaker", "batch_size"),
    "kv_store": ("SageMaker", "--workers N, always synchronous"),
    "image_shape": ("SageMaker", "image_size"),
    # Paddle's high-level API
    "save_dir": ("Paddle", "the run folder, always a fresh one under runs/"),
    "save_freq": ("Paddle", "checkpoint_frequency"),
    "eval_freq": ("Paddle", "evaluation_frequency"),
    "num_workers": ("Paddle", "data_workers"),
    # what scripts for PyTorch call it
    "lr": ("PyTorch", "lr_max"),
    "wd": ("timm", "weight_decay"),
    "bs": ("fastai", "batch_size"),
    "imgsz": ("Ultralytics", "image_size"),
    "patience": ("Ultralytics", "early_stopping_patience"),
    "workers": ("timm", "data_workers, or --workers N for several processes"),
    "pretrained": ("timm", "--backbone FILE"),
    "max_epochs": ("Lightning", "epochs"),
}

# project -> names, separated by spaces, with the same meaning here
SHARED_NAMES = {
    "ModelArts": "do_eval_along_train label_balance label_smoothing learning_rate_strategy max_to_keep "
    "max_training_time momentum ohem_top_ratio optimizer rescale_train_batch_size_factor transform_normalize "
    "mixup_alpha weight_decay",
    "Azure AutoML": "amsgrad beta1 beta2 checkpoint_frequency early_stopping early_stopping_delay "
    "early_stopping_patience evaluation_frequency grad_accumulation_step layers_to_freeze lr_scheduler momentum "
    "nesterov optimizer step_lr_gamma step_lr_step_size train_crop_size valid_crop_size valid_resize_size "
    "validation_batch_size weight_decay weighted_loss",
    "SageMaker": "early_stopping early_stopping_min_epochs early_stopping_patience early_stopping_tolerance epochs "
    "freeze_layer_pattern lr_scheduler_factor lr_scheduler_step momentum optimizer weight_decay",
    "Paddle": "batch_size epochs",
}
