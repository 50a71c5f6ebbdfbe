_base_ = "mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py"
custom_imports = dict(imports=["sp_mmselfsup"])
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=dict())
