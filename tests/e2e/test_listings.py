"""Test ListModels, GetModel, ListLayers and ListBlocks through a real server process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from layertap import Client, Layout, ModelState, blocks
from tests.paths import MODEL
from tests.processes import ServerProcess, running_server


def test_models(client: Client) -> None:
    models = {model.name: model for model in client.models()}
    assert models[MODEL].state is ModelState.READY
    assert models[MODEL].labels == ()
    assert models[MODEL].device == "CPU"


def test_a_model_with_its_labels(client: Client) -> None:
    model = client.model(MODEL)
    assert (model.labels[967], model.labels[665], model.labels[657]) == ("espresso", "moped", "missile")
    assert len(model.labels) == 1000
    assert model.aliases == {"embedding": "pooled"}
    assert model.stages == ("blocks.0", "blocks.2", "blocks.4", "blocks.10", "blocks.15")
    assert (model.inputs[0].name, model.inputs[0].shape) == ("input", (-1, 3, 224, 224))
    assert "crop the centre 224×224" in model.preprocessing
    assert model.license == "Apache-2.0"


def test_layers(client: Client) -> None:
    layers = client.layers(MODEL)
    assert [layer.ordinal for layer in layers] == list(range(143))
    stages = [client.layers(MODEL, f"stage:{number}")[0] for number in range(1, 6)]
    assert [layer.channels for layer in stages] == [16, 24, 40, 112, 320]
    assert [layer.stride for layer in stages] == [2, 4, 8, 16, 32]
    (embedding,), (logits,) = client.layers(MODEL, "embedding"), client.layers(MODEL, "logits")
    assert (embedding.channels, logits.channels) == (1280, 1000)
    assert embedding.layout is Layout.VECTOR


def test_listings_answer_whatever_extractions_may_wait() -> None:
    with (
        running_server("--max-waiting", "0") as server,
        Client(server.address) as client,
        ThreadPoolExecutor(40) as pool,
    ):
        asked = [pool.submit(client.layers, MODEL) for _ in range(80)]
        assert {len(answer.result(60)) for answer in asked} == {143}


def test_module_paths_are_selectors(client: Client) -> None:
    assert client.layers(MODEL, "blocks.1.expand")[0].name == "blocks.1.expand"
    assert client.layers(MODEL, "blocks.2.add")[0].name == "blocks.2"
    assert client.layers(MODEL, "stem.activation")[0].name == "stem"
    assert [layer.name for layer in client.layers(MODEL, "blocks.1*.add")] == [
        f"blocks.{number}" for number in (10, 12, 13, 14)
    ]


def test_the_catalogue_is_the_sdk_s_own(client: Client) -> None:
    assert tuple(client.blocks()) == blocks.CATALOGUE
    assert client.blocks("logistic") == [blocks.get("sigmoid")]


def test_health_overall_and_by_service(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "layertap.v1.FeatureService", "layertap.v1.ModelService", f"model/{MODEL}"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_shows_the_contract(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="layertap.v1.FeatureService"),
        ]
        listed, file = stub.ServerReflectionInfo(iter(asked), timeout=10)
    services = {service.name for service in listed.list_services_response.service}
    assert {"layertap.v1.FeatureService", "layertap.v1.ModelService", "grpc.health.v1.Health"} <= services
    described = descriptor_pb2.FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert described.name == "layertap/v1/feature_service.proto"
