import { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { type ValueInfoProto, ValueInfoProtoSchema } from "@tutti/wire/onnx";
import type { Dimension, ValueInfo } from "../ir.ts";
import { dtypeCode, dtypeOf } from "./dtype.ts";

/** Name, dtype and shape of an input or output; outputs of inner graphs may leave the type out. */
export function readValueInfo(proto: ValueInfoProto): ValueInfo {
  const type = proto.type?.value;
  if (type?.case !== "tensorType") {
    if (proto.type === undefined) return { name: proto.name, dtype: "float32", shape: null };
    throw new Fault("unsupported", `value ${proto.name}`, { expected: "a dense tensor" });
  }
  const { elemType, shape } = type.value;
  const dtype = dtypeOf(elemType, `value ${proto.name}`);
  const dimensions = shape?.dim.map(({ value }): Dimension => {
    // Exporters write 0 or -1, or an empty name, where they know nothing.
    if (value.case === "dimValue") return value.value < 0n ? null : Number(value.value);
    return value.case === "dimParam" && value.value !== "" ? value.value : null;
  });
  return { name: proto.name, dtype, shape: dimensions ?? null };
}

export function writeValueInfo({ name, dtype, shape }: ValueInfo): ValueInfoProto {
  const dim = shape?.map((dimension) => {
    if (dimension === null) return {};
    return typeof dimension === "number"
      ? { value: { case: "dimValue" as const, value: BigInt(dimension) } }
      : { value: { case: "dimParam" as const, value: dimension } };
  });
  const value = { elemType: dtypeCode(dtype), ...(dim ? { shape: { dim } } : {}) };
  return create(ValueInfoProtoSchema, { name, type: { value: { case: "tensorType", value } } });
}
