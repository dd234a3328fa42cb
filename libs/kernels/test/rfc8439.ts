/** A test vector of RFC 8439: the stream from `block` on, added bit by bit to the text, is `out` (hex). */
export type Vector = {
  readonly section: string;
  readonly key: string;
  readonly nonce: string;
  readonly block: number;
  readonly text: Uint8Array;
  readonly out: string;
};

const ZERO_KEY = "00".repeat(32);
const ONE_KEY = `${"00".repeat(31)}01`;
const COUNTING_KEY = Array.from({ length: 32 }, (_, i) => i.toString(16).padStart(2, "0")).join("");
const ZERO_NONCE = "00".repeat(12);
const TWO_NONCE = `${"00".repeat(11)}02`;
const NOTHING = new Uint8Array(64);

const utf8 = (text: string) => new TextEncoder().encode(text);

const SUNSCREEN =
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen " +
  "would be it.";
const IETF =
  "Any submission to the IETF intended by the Contributor for publication as all or part of an IETF " +
  "Internet-Draft or RFC and any statement made within the context of an IETF activity is considered an " +
  '"IETF Contribution". Such statements include oral statements in IETF sessions, as well as written and ' +
  "electronic communications made at any time or place, which are addressed to";
const JABBERWOCKY =
  "'Twas brillig, and the slithy toves\nDid gyre and gimble in the wabe:\nAll mimsy were the borogoves,\n" +
  "And the mome raths outgrabe.";

export const VECTORS: readonly Vector[] = [
  {
    section: "2.3.2",
    key: COUNTING_KEY,
    nonce: "000000090000004a00000000",
    block: 1,
    text: NOTHING,
    out:
      "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e" +
      "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
  },
  {
    section: "2.4.2",
    key: COUNTING_KEY,
    nonce: "000000000000004a00000000",
    block: 1,
    text: utf8(SUNSCREEN),
    out:
      "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b" +
      "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8" +
      "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736" +
      "5af90bbf74a35be6b40b8eedf2785e42874d",
  },
  {
    section: "A.1, vector 1",
    key: ZERO_KEY,
    nonce: ZERO_NONCE,
    block: 0,
    text: NOTHING,
    out:
      "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7" +
      "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
  },
  {
    section: "A.1, vector 2",
    key: ZERO_KEY,
    nonce: ZERO_NONCE,
    block: 1,
    text: NOTHING,
    out:
      "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed" +
      "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
  },
  {
    section: "A.1, vector 3",
    key: ONE_KEY,
    nonce: ZERO_NONCE,
    block: 1,
    text: NOTHING,
    out:
      "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a" +
      "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
  },
  {
    section: "A.1, vector 4",
    key: `00ff${"00".repeat(30)}`,
    nonce: ZERO_NONCE,
    block: 2,
    text: NOTHING,
    out:
      "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca" +
      "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
  },
  {
    section: "A.1, vector 5",
    key: ZERO_KEY,
    nonce: TWO_NONCE,
    block: 0,
    text: NOTHING,
    out:
      "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7" +
      "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
  },
  {
    section: "A.2, vector 2",
    key: ONE_KEY,
    nonce: TWO_NONCE,
    block: 1,
    text: utf8(IETF),
    out:
      "a3fbf07df3fa2fde4f376ca23e82737041605d9f4f4f57bd8cff2c1d4b7955ec" +
      "2a97948bd3722915c8f3d337f7d370050e9e96d647b7c39f56e031ca5eb6250d" +
      "4042e02785ececfa4b4bb5e8ead0440e20b6e8db09d881a7c6132f420e527950" +
      "42bdfa7773d8a9051447b3291ce1411c680465552aa6c405b7764d5e87bea85a" +
      "d00f8449ed8f72d0d662ab052691ca66424bc86d2df80ea41f43abf937d3259d" +
      "c4b2d0dfb48a6c9139ddd7f76966e928e635553ba76c5c879d7b35d49eb2e62b" +
      "0871cdac638939e25e8a1e0ef9d5280fa8ca328b351c3c765989cbcf3daa8b6c" +
      "cc3aaf9f3979c92b3720fc88dc95ed84a1be059c6499b9fda236e7e818b04b0b" +
      "c39c1e876b193bfe5569753f88128cc08aaa9b63d1a16f80ef2554d7189c411f" +
      "5869ca52c5b83fa36ff216b9c1d30062bebcfd2dc5bce0911934fda79a86f6e6" +
      "98ced759c3ff9b6477338f3da4f9cd8514ea9982ccafb341b2384dd902f3d1ab" +
      "7ac61dd29c6f21ba5b862f3730e37cfdc4fd806c22f221",
  },
  {
    section: "A.2, vector 3",
    key: "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
    nonce: TWO_NONCE,
    block: 42,
    text: utf8(JABBERWOCKY),
    out:
      "62e6347f95ed87a45ffae7426f27a1df5fb69110044c0d73118effa95b01e5cf" +
      "166d3df2d721caf9b21e5fb14c616871fd84c54f9d65b283196c7fe4f60553eb" +
      "f39c6402c42234e32a356b3e764312a61a5532055716ead6962568f87d3f3f77" +
      "04c6a8d1bcd1bf4d50d6154b6da731b187b58dfd728afa36757a797ac188d1",
  },
];
