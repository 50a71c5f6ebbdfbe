_base_ = "mmpretrain::byol/byol_resnet50_16xb256-coslr-200e_in1k.py"
custom_imports = dict(imports=["sp_mmselfsup"])
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=dict())
