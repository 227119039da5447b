"""Names that other suites give to the flags of this one, for users who type them here."""

# Each flag and its other names, in lower case with underscores. A name may mean several flags.
OTHER_NAMES = {
    "distill": "method methods distiller kd_method",
    "model_t": "teacher teacher_model model_teacher teacher_arch arch_t t_arch",
    "path_t": "teacher teacher_path teacher_ckpt teacher_checkpoint teacher_weights checkpoint ckpt weights",
    "model_s": "student student_model model_student student_arch arch_s s_arch arch net network",
    "model": "arch net network",
    "path": "checkpoint ckpt weights",
    "path_s": "student checkpoint ckpt weights",
    "epochs": "epoch num_epochs n_epochs max_epochs",
    "batch_size": "bs",
    "optimizer": "opt",
    "learning_rate": "lr base_lr init_lr",
    "weight_decay": "wd",
    "schedule": "sched scheduler lr_scheduler",
    "lr_decay_epochs": "milestones lr_steps lr_decay_stages",
    "warmup_epochs": "warmup",
    "label_smoothing": "smoothing",
    "kd_T": "t temperature temp tau",
    "gamma": "ce_weight",
    "alpha": "kd_weight",
    "beta": "feat_weight feature_weight",
    "dataset": "data_set image_size img_size input_size",
    "data_folder": "data data_dir data_path data_root root",
    "output": "output_dir out_dir save_dir save_path log_dir",
    "preset": "cfg config",
    "device": "gpu gpu_id gpus",
    "precision": "amp fp16 dtype",
    "seed": "random_seed",
}


def flags_meant_by(name: str) -> set[str]:
    """The flags, of any script, that other suites call `name`."""
    return {flag for flag, names in OTHER_NAMES.items() if name.lower() in names.split()}
