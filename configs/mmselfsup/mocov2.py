_base_ = "mmselfsup::selfsup/mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py"
custom_imports = dict(imports=["sp_mmselfsup"])
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=dict())
