_base_ = "mmselfsup::selfsup/byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k.py"
custom_imports = dict(imports=["sp_mmselfsup"])
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=dict())
