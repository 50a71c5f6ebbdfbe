_base_ = "mmselfsup::selfsup/swav/swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py"
custom_imports = dict(imports=["sp_mmselfsup"])
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=dict())
