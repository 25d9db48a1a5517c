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

// Element types that a Float32Array and its siblings can hold; float16 has none in Node.js 20.
const ARRAYS = {
  DATA_TYPE_FLOAT32: Float32Array,
  DATA_TYPE_FLOAT64: Float64Array,
  DATA_TYPE_UINT8: Uint8Array,
  DATA_TYPE_INT8: Int8Array,
  DATA_TYPE_INT32: Int32Array,
  DATA_TYPE_INT64: BigInt64Array,
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
  const values = new ARRAYS[dtype](Uint8Array.from(data).buffer);
  return { name, layer: map.layer, dtype, shape, values: Array.from(values, Number) };
}

function extract(client, request) {
  return new Promise((resolve, reject) => {
    client.Extract(request, (error, response) => {
      if (error) reject(error);
      else resolve(response.features.map((map) => toFeature(map, map.tensor.data)));
    });
  });
}

// Small answers come as one result; of larger ones each feature has a header and its data in chunks.
function extractStream(client, { model, taps, images }) {
  return new Promise((resolve, reject) => {
    const stream = client.ExtractStream();
    let features = [];
    const headers = [];
    stream.on('data', (answer) => {
      if (answer.message === 'error') reject(new Error(answer.error.message));
      if (answer.message === 'result') features = answer.result.features.map((map) => toFeature(map, map.tensor.data));
      if (answer.message === 'header') {
        headers.push({ map: answer.header.feature, data: Buffer.alloc(answer.header.total_bytes) });
      }
      if (answer.message === 'chunk') {
        answer.chunk.data.copy(headers[answer.chunk.feature_index].data, answer.chunk.offset);
      }
      if (answer.message === 'done') features = headers.map(({ map, data }) => toFeature(map, data));
    });
    stream.on('error', reject);
    stream.on('end', () => resolve(features));
    stream.write({ open: { model, taps } });
    stream.write({ image: { id: 'picture', image: images[0] } });
    stream.end();
  });
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
