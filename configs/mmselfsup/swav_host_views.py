_base_ = "mmselfsup::selfsup/swav/swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py"
custom_imports = dict(imports=["sp_mmselfsup"])
sp = dict(source="host_views")
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=sp)
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="SPViewBoxes", pipeline={{_base_.train_pipeline}})])
)
