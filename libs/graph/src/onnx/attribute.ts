import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as Type,
} from "@tutti/wire/onnx";
import type { Attribute, Graph, Tensor } from "../ir.ts";
import { safeNumber } from "../tensor.ts";

/** How the parts that have parts are read and written; the graph reader passes itself in. */
export type Nested<TensorMessage, GraphMessage> = {
  tensor(message: TensorMessage): Tensor;
  graph(message: GraphMessage): Graph;
};

type Readers = Nested<NonNullable<AttributeProto["t"]>, NonNullable<AttributeProto["g"]>>;

/** An attribute in JavaScript's own types. `what` names the node and the attribute. */
export function readAttribute(proto: AttributeProto, what: string, nested: Readers): Attribute {
  switch (attributeType(proto)) {
    case Type.INT:
      return { kind: "int", value: safeNumber(proto.i) };
    case Type.FLOAT:
      return { kind: "float", value: proto.f };
    case Type.STRING:
      return { kind: "string", value: fromUtf8(proto.s, what) };
    case Type.INTS:
      return { kind: "ints", value: proto.ints.map(safeNumber) };
    case Type.FLOATS:
      return { kind: "floats", value: proto.floats };
    case Type.STRINGS:
      return { kind: "strings", value: proto.strings.map((bytes) => fromUtf8(bytes, what)) };
    case Type.TENSOR:
      if (proto.t) return { kind: "tensor", value: nested.tensor(proto.t) };
      break;
    case Type.GRAPH:
      if (proto.g) return { kind: "graph", value: nested.graph(proto.g) };
      break;
  }
  const got = Type[proto.type] ?? `${proto.type}`;
  throw new Fault("unsupported", what, { expected: "an attribute of numbers, text, tensor or graph", got });
}

type Writers = {
  tensor(value: Tensor): NonNullable<AttributeProto["t"]>;
  graph(value: Graph): NonNullable<AttributeProto["g"]>;
};

export function writeAttribute(name: string, attribute: Attribute, nested: Writers): AttributeProto {
  return create(AttributeProtoSchema, { name, ...fields(attribute, nested) });
}

/** The type is always written: only files of IR version 1 may leave it out. */
function fields(attribute: Attribute, nested: Writers) {
  switch (attribute.kind) {
    case "int":
      return { type: Type.INT, i: BigInt(attribute.value) };
    case "float":
      return { type: Type.FLOAT, f: attribute.value };
    case "string":
      return { type: Type.STRING, s: utf8(attribute.value) };
    case "ints":
      return { type: Type.INTS, ints: attribute.value.map(BigInt) };
    case "floats":
      return { type: Type.FLOATS, floats: [...attribute.value] };
    case "strings":
      return { type: Type.STRINGS, strings: attribute.value.map(utf8) };
    case "tensor":
      return { type: Type.TENSOR, t: nested.tensor(attribute.value) };
    case "graph":
      return { type: Type.GRAPH, g: nested.graph(attribute.value) };
  }
}

/** Files of IR version 1 leave the type out; it is then the field that holds something. */
function attributeType(proto: AttributeProto): Type {
  if (proto.refAttrName) return Type.UNDEFINED;
  if (proto.type !== Type.UNDEFINED) return proto.type;
  if (proto.ints.length) return Type.INTS;
  if (proto.floats.length) return Type.FLOATS;
  if (proto.strings.length) return Type.STRINGS;
  if (proto.t) return Type.TENSOR;
  if (proto.g) return Type.GRAPH;
  if (proto.s.length) return Type.STRING;
  return proto.f === 0 ? Type.INT : Type.FLOAT;
}
