_base_ = "mmpretrain::simmim/simmim_swin-base-w6_16xb128-amp-coslr-100e_in1k-192px.py"
custom_imports = dict(imports=["sp_mmselfsup"])
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=dict())
