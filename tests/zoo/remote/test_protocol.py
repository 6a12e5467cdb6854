"""Messages of the Open Inference Protocol: what is sent arrives, and nothing else is taken."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ProtocolError
from zoo.remote.protocol import (
    DTYPES,
    InferRequest,
    InferResponse,
    MessageLimits,
    ModelMetadata,
    Tensor,
    bytes_tensor,
    decode_error,
    decode_infer_request,
    decode_infer_response,
    decode_metadata,
    encode_error,
    encode_infer_request,
    encode_infer_response,
    encode_metadata,
)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", [*DTYPES])
def test_a_request_of_each_datatype_arrives_as_it_was(datatype, binary):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[datatype])
    sent = InferRequest((Tensor("x", values),), outputs=("y", "z"), binary_of={"z": False}, id="7")
    message = encode_infer_request(sent, binary=binary)
    got = decode_infer_request(message.body, message.headers.get("Inference-Header-Content-Length"))
    assert got.inputs[0].datatype == datatype
    assert np.array_equal(got.inputs[0].values, values)
    assert got.outputs == ("y", "z")
    assert got.wants_binary("y")
    assert not got.wants_binary("z")
    assert got.id == "7"


@pytest.mark.parametrize("binary", [True, False])
def test_a_response_arrives_as_it_was_in_either_form(binary):
    outputs = (Tensor("logits", np.float32([[1.5, -2]])), bytes_tensor("name", [b"a", b""], (1, 2)))
    request = InferRequest((), binary_outputs=binary)
    message = encode_infer_response(InferResponse("m", outputs, "3", "id"), request=request)
    assert (message.header_length is not None) == binary
    got = decode_infer_response(message.body, message.header_length)
    assert got.outputs[0].values.tolist() == [[1.5, -2]]
    assert got.outputs[1].values.tolist() == [[b"a", b""]]
    assert (got.model_name, got.model_version, got.id) == ("m", "3", "id")


def test_numbers_of_the_other_byte_order_are_sent_in_that_of_the_protocol():
    message = encode_infer_request(InferRequest((Tensor("x", np.array([1, 2], ">f4")),)))
    assert decode_infer_request(message.body, message.header_length).inputs[0].values.tolist() == [1, 2]


def _answer(data=b"", length=True, **item):
    one = {"name": "y", "shape": [1, 2], "datatype": "FP32", **item}
    text = msgspec.json.encode({"model_name": "m", "outputs": [one]})
    return text + data, len(text) if length else None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (_answer(b"12345678"), "neither"),
        (_answer(b"1234567", parameters={"binary_data_size": 7}), "8 bytes"),
        (_answer(b"12345678", parameters={"binary_data_size": 9}), "8 bytes that are left"),
        (_answer(b"12345678", parameters={"binary_data_size": -1}), "size -1"),
        (_answer(b"12345678", parameters={"binary_data_size": True}), "size True"),
        (_answer(b"123456789", parameters={"binary_data_size": 8}), "1 bytes more"),
        (_answer(data=b"", shape=[-1, 2]), "shape"),
        (_answer(data=b"", shape=[2**31, 0]), "shape"),
        (_answer(data=b"", shape=[1] * 9), "8 axes"),
        (_answer(data=b"", shape=[2**30, 2**30]), "at most"),
        (_answer(datatype="BF16"), "datatypes"),
        (_answer(b"\5\0\0\0ab", datatype="BYTES", shape=[1], parameters={"binary_data_size": 6}), "an end"),
        (_answer(b"\2\0\0\0abc", datatype="BYTES", shape=[1], parameters={"binary_data_size": 7}), "more"),
        (_answer(b"\2\1", datatype="BOOL", parameters={"binary_data_size": 2}), "0 and 1"),
        ((b'{"model_name": "m", "outputs": [' + b"[" * 9999, None), "valid JSON"),
        ((b"<html>sign in</html>", None), "valid JSON"),
        ((b'{"predictions": [[1, 2]]}', None), "model_name"),
        ((b"{}", "0"), "Inference-Header"),
        ((b"{}", "3"), "Inference-Header"),
        ((b"{}", "1e1"), "Inference-Header"),
    ],
)
def test_what_is_no_answer_is_refused(body, said):
    with pytest.raises(ProtocolError, match=said):
        decode_infer_response(*body)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", [1, None]),
        ("FP32", [1, "2"]),
        ("FP32", [1]),
        ("FP32", [1, 2, 3]),
        ("FP32", {"0": 1}),
        ("UINT8", [1, 256]),
        ("UINT8", [1, -1]),
        ("INT32", [1, 1.5]),
        ("BOOL", [1, 0]),
        ("BYTES", [1, 2]),
    ],
)
def test_values_in_json_are_of_their_datatype_and_count(datatype, data):
    item = {"name": "y", "shape": [2], "datatype": datatype, "data": data}
    body = msgspec.json.encode({"model_name": "m", "outputs": [item]})
    with pytest.raises(ProtocolError):
        decode_infer_response(body)


def test_nested_json_is_taken_in_order():
    item = {"name": "y", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3.5, 4]]}
    body = msgspec.json.encode({"model_name": "m", "outputs": [item]})
    assert decode_infer_response(body).outputs[0].values.tolist() == [[1, 2], [3.5, 4]]


@pytest.mark.parametrize(
    "limits", [MessageLimits(body_bytes=50), MessageLimits(header_bytes=50), MessageLimits(tensors=0)]
)
def test_what_takes_more_than_it_may_is_refused(limits):
    message = encode_infer_response(InferResponse("m", (Tensor("y", np.zeros(40, np.float32)),)))
    with pytest.raises(ProtocolError, match="at most"):
        decode_infer_response(message.body, message.header_length, limits=limits)


def test_one_name_twice_is_refused():
    two = (Tensor("y", np.zeros(1, np.float32)),) * 2
    message = encode_infer_response(InferResponse("m", two))
    with pytest.raises(ProtocolError, match="twice"):
        decode_infer_response(message.body, message.header_length)


def test_nan_has_no_form_in_json_and_one_in_binary():
    answer = InferResponse("m", (Tensor("y", np.float32([np.nan])),))
    message = encode_infer_response(answer)
    assert np.isnan(decode_infer_response(message.body, message.header_length).outputs[0].values).all()
    with pytest.raises(ProtocolError, match="finite"):
        encode_infer_response(answer, request=InferRequest((), binary_outputs=False))


def test_a_datatype_that_the_protocol_does_not_know_is_not_sent():
    with pytest.raises(ProtocolError, match="complex64"):
        encode_infer_request(InferRequest((Tensor("x", np.zeros(1, np.complex64)),)))


def test_metadata_and_errors_arrive_as_they_were():
    record = ModelMetadata(name="m", parameters={"classes": ["a", "b"]})
    assert decode_metadata(encode_metadata(record), ModelMetadata) == record
    assert decode_error(encode_error("no such model")) == "no such model"
    assert decode_error(b"<html>") == ""


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 120), st.integers(0, 255))
def test_no_damaged_message_raises_anything_else(junk, at, byte):
    message = encode_infer_request(InferRequest((bytes_tensor("x", [junk]), Tensor("y", np.float32([1])))))
    body = bytearray(message.body)
    body[at % len(body)] = byte
    try:
        decode_infer_request(bytes(body), message.header_length)
    except ProtocolError:
        return
