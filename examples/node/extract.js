// Reads feature maps of a picture with @grpc/grpc-js, once by Extract and once by ExtractStream.
//
//   cd examples/node && npm install
//   node extract.js localhost:8001 efficientnet_lite0 photo.jpg 'stage:4 | gap' 'stage:1'
//
// Prints one JSON object: for "unary" and for "stream" each feature's name, layer, dtype, shape and values.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTOS = path.join(__dirname, '..', '..', 'protos');
const LARGEST_MESSAGE = 512 * 1024 * 1024;

// Element types and the arrays that hold them. Node.js 20 has none for float16, which becomes float32.
const ARRAYS = {
  DATA_TYPE_FLOAT32: Float32Array,
  DATA_TYPE_FLOAT16: Uint16Array,
  DATA_TYPE_FLOAT64: Float64Array,
  DATA_TYPE_UINT8: Uint8Array,
  DATA_TYPE_INT8: Int8Array,
  DATA_TYPE_UINT16: Uint16Array,
  DATA_TYPE_INT16: Int16Array,
  DATA_TYPE_UINT32: Uint32Array,
  DATA_TYPE_INT32: Int32Array,
  DATA_TYPE_UINT64: BigUint64Array,
  DATA_TYPE_INT64: BigInt64Array,
  DATA_TYPE_BOOL: Uint8Array,
};

function connect(address) {
  const definition = protoLoader.loadSync('layertap/v1/feature_service.proto', {
    includeDirs: [PROTOS],
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const { FeatureService } = grpc.loadPackageDefinition(definition).layertap.v1;
  return new FeatureService(address, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': LARGEST_MESSAGE,
  });
}

// A feature map's array is little-endian and in C order; it is copied so that it begins at an aligned address.
function toFeature(map, data) {
  const { name, dtype, shape } = map.tensor;
  if (!(dtype in ARRAYS)) throw new Error(`${name} has elements of ${dtype}, which this program does not read`);
  const values = new ARRAYS[dtype](Uint8Array.from(data).buffer);
  const convert = dtype === 'DATA_TYPE_FLOAT16' ? fromFloat16 : Number;
  return { name, layer: map.layer, dtype, shape, values: Array.from(values, convert) };
}

// The number that 16 bits stand for: a sign, 5 bits of exponent and 10 of fraction (IEEE 754).
function fromFloat16(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

async function extract(client, request) {
  const response = await new Promise((resolve, reject) => {
    client.Extract(request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  return response.features.map((map) => toFeature(map, map.tensor.data));
}

// Small answers come as one result; of larger ones each feature has a header and its data in chunks.
async function extractStream(client, { model, taps, images }) {
  const received = await new Promise((resolve, reject) => {
    const stream = client.ExtractStream();
    let results = [];
    const headers = [];
    stream.on('data', (answer) => {
      if (answer.message === 'error') reject(new Error(answer.error.message));
      if (answer.message === 'result') results = answer.result.features.map((map) => ({ map, data: map.tensor.data }));
      if (answer.message === 'header') {
        headers.push({ map: answer.header.feature, data: Buffer.alloc(answer.header.total_bytes) });
      }
      if (answer.message === 'chunk') {
        answer.chunk.data.copy(headers[answer.chunk.feature_index].data, answer.chunk.offset);
      }
      if (answer.message === 'done') results = headers;
    });
    stream.on('error', reject);
    stream.on('end', () => resolve(results));
    stream.write({ open: { model, taps } });
    stream.write({ image: { id: 'picture', image: images[0] } });
    stream.end();
  });
  return received.map(({ map, data }) => toFeature(map, data));
}

async function main([address, model, picture, ...expressions]) {
  const client = connect(address);
  const request = {
    model,
    images: [{ encoded: fs.readFileSync(picture) }],
    taps: expressions.map((expression) => ({ expression })),
  };
  const unary = await extract(client, request);
  const stream = await extractStream(client, request);
  client.close();
  process.stdout.write(`${JSON.stringify({ unary, stream })}\n`);
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
