_base_ = "mmselfsup::selfsup/simmim/simmim_swin-base_16xb128-amp-coslr-100e_in1k-192.py"
custom_imports = dict(imports=["sp_mmselfsup"])
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=dict())
