/**
 * What keys type on common keyboard layouts, and from that the keys that type a text. Layouts have the names and the
 * symbols that X11 and Wayland give them (xkeyboard-config); other guests agree in what is on the keys, not always in
 * what AltGr adds.
 */

/**
 * The keys of four rows, from the one with the digits down, and two that only some keyboards have (yen and ro). A word
 * is a key: what it types plainly, with Shift, with AltGr, and with both. `◌` and an accent are a dead key, `∅` is
 * nothing.
 */
const TABLES = {
  us: `
    \`~ 1! 2@ 3# 4$ 5% 6^ 7& 8* 9( 0) -_ =+
    qQ wW eE rR tT yY uU iI oO pP [{ ]}
    aA sS dD fF gG hH jJ kK lL ;: '" \\|
    <> zZ xX cC vV bB nN mM ,< .> /?`,
  'us-intl': `
    ◌\`◌~\`~ 1!¡¹ 2@²◌˝ 3#³◌¯ 4$¤£ 5%€◌¸ 6◌^¼^ 7&½◌+ 8*¾◌˛ 9(‘◌˘ 0)’◌° -_¥◌. =+×÷
    qQäÄ wWåÅ eEéÉ rR® tTþÞ yYüÜ uUúÚ iIíÍ oOóÓ pPöÖ [{«“ ]}»”
    aAáÁ sSß§ dDðÐ fF gG hH jJ kKœŒ lLøØ ;:¶° ◌´◌¨'" \\|¬¦
    \\| zZæÆ xX cC©¢ vV bB nNñÑ mMµ ,<çÇ .>◌˙◌ˇ /?¿◌?`,
  'us-dvorak': `
    \`~ 1! 2@ 3# 4$ 5% 6^ 7& 8* 9( 0) [{ ]}
    '" ,< .> pP yY fF gG cC rR lL /? =+
    aA oO eE uU iI dD hH tT nN sS -_ \\|
    <> ;: qQ jJ kK xX bB mM wW vV zZ`,
  'us-colemak': `
    \`~◌~ 1!¡¹ 2@º² 3#ª³ 4$¢£ 5%€¥ 6^ħĦ 7&ðÐ 8*þÞ 9(‘“ 0)’” -_–— =+×÷
    qQäÄ wWåÅ fFãÃ pPøØ gG◌˛~ jJđĐ lLłŁ uUúÚ yYüÜ ;:öÖ [{«‹ ]}»›
    aAáÁ rR◌\`~ sSßẞ tT◌´◌˝ dD◌¨~ hH◌ˇ~ nNñÑ eEéÉ iIíÍ oOóÓ '"õÕ \\|~
    -_–— zZæÆ xX◌^~ cCçÇ vVœŒ bB◌˘~ kK◌°~ mM◌¯~ ,<◌¸~ .>◌˙~ /?¿~`,
  gb: `
    \`¬| 1!¹¡ 2"²⅛ 3£³ 4$€¼ 5%½⅜ 6^¾⅝ 7&{⅞ 8*[™ 9(]± 0)}° -_\\¿ =+◌¸◌˛
    qQ@Ω wWſ§ eE rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ [{◌¨◌° ]}◌~◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ ;:◌´◌˝ '@◌^◌ˇ #~◌\`◌˘
    \\|∅¦ zZ«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,<•× .>·÷ /?◌.◌˙`,
  de: `
    ◌^°′″ 1!¹¡ 2"²⅛ 3§³£ 4$¼¤ 5%½⅜ 6&¬⅝ 7/{⅞ 8([™ 9)]± 0=}° ß?\\¿ ◌´◌\`◌¸◌˛
    qQ@Ω wWſ§ eE€ rR¶® tTŧŦ zZ←¥ uU↓↑ iI→ı oOøØ pPþÞ üÜ◌¨◌° +*~¯
    aAæÆ sSſẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌.◌˙ kKĸ& lLłŁ öÖ◌˝◌. äÄ◌^◌ˇ #'’◌˘
    <>| yY»› xX«‹ cC¢© vV„‚ bB“‘ nN”’ mMµº ,;·× .:…÷ -_–—`,
  ch: `
    §°¬ 1+|¡ 2"@⅛ 3*#£ 4ç¼$ 5%½⅜ 6&¬⅝ 7/|⅞ 8(¢™ 9)]± 0=}° '?◌´¿ ◌^◌\`◌~◌˛
    qQ@Ω wWſ§ eE€ rR¶® tTŧŦ zZ←¥ uU↓↑ iI→ı oOœŒ pPþÞ üè[◌° ◌¨!]◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ öé◌´◌˝ äà{◌ˇ $£}◌˘
    <>\\¦ yY«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,;•× .:·÷ -_◌.◌˙`,
  'ch-fr': `
    §°¬ 1+|¡ 2"@⅛ 3*#£ 4ç¼$ 5%½⅜ 6&¬⅝ 7/|⅞ 8(¢™ 9)]± 0=}° '?◌´¿ ◌^◌\`◌~◌˛
    qQ@Ω wWſ§ eE€ rR¶® tTŧŦ zZ←¥ uU↓↑ iI→ı oOœŒ pPþÞ èü[◌° ◌¨!]◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ éö◌´◌˝ àä{◌ˇ $£}◌˘
    <>\\¦ yY«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,;•× .:·÷ -_◌.◌˙`,
  fr: `
    ²~¬ &1¹¡ é2~⅛ "3#£ '4{$ (5[⅜ -6|⅝ è7\`⅞ _8\\™ ç9^± à0@° )°]¿ =+}◌˛
    aAæÆ zZ«< eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ ◌^◌¨∅◌° $£¤◌¯
    qQ@Ω sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ mMµº ù%◌^◌ˇ *µ◌\`◌˘
    <>|¦ wWłŁ xX»> cC¢© vV„‚ bB“‘ nN”’ ,?◌´◌˝ ;.•× :/·÷ !§◌.◌˙`,
  be: `
    ²³¬ &1|¡ é2@⅛ "3#£ '4¼$ (5½⅜ §6^⅝ è7{⅞ !8[™ ç9{± à0}° )°\\¿ -_◌¸◌˛
    aA@Ω zZſ§ eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOœŒ pPþÞ ◌^◌¨[◌° $*]◌¯
    qQæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ mM◌´◌˝ ù%◌´◌ˇ µ£◌\`◌˘
    <>\\ wW«< xX»> cC¢© vV„‚ bB“‘ nN”’ ,?◌¸º ;.•× :/·÷ =+◌~◌˙`,
  nl: `
    @§¬ 1!¹¡ 2"²⅛ 3#³£ 4$¼ 5%½⅜ 6&¾⅝ 7_£⅞ 8({[ 9)}] 0'°™ /?\\¿ °◌~◌¸◌˛
    qQ@Ω wWſ§ eE€¢ rR¶® tTþÞ yYÿ¥ uUüÜ iIïÏ oOòÒ pP¶Þ ◌¨◌^~^ *|◌~◌¯
    aAáÁ sSßẞ dDðÐ fFª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ +±◌´◌˝ ◌´◌\`'\` <>◌\`◌˘
    ][|¦ zZ«< xX»> cC¢© vV“‘ bB”’ nNñÑ mMμº ,;¸« .:·» -=∅◌˙`,
  es: `
    ºª\\ 1!|¡ 2"@⅛ 3·#£ 4$~ 5%½⅜ 6&¬⅝ 7/{⅞ 8([™ 9)]± 0=}° '?\\¿ ¡¿◌¸◌˛
    qQ@Ω wWſ§ eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ ◌\`◌^[◌° +*]◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ ñÑ◌~◌˝ ◌´◌¨{◌ˇ çÇ}◌˘
    <>|¦ zZ«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,;•× .:·÷ -_◌.◌˙`,
  latam: `
    |°¬ 1!|¡ 2"@⅛ 3#·£ 4$~ 5%½⅜ 6&¬⅝ 7/{⅞ 8([™ 9)]± 0=}° '?\\¿ ¿¡◌¸◌˛
    qQ@Ω wWſ§ eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ ◌´◌¨∅◌° +*~◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ ñÑ~◌˝ {[◌^ }]◌\`
    <>\\| zZ«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,;•× .:·÷ -_◌.◌˙`,
  it: `
    \\|¬¦ 1!¹¡ 2"²◌˝ 3£³◌~ 4$¼⅛ 5%½⅜ 6&¬⅝ 7/{⅞ 8([™ 9)]± 0=}◌˛ '?\`¿ ì^~◌^
    qQ@Ω wWſ§ eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ èé[{ +*]}
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ òç@◌¸ à°#◌° ù§◌\`◌˘
    <>«» zZ«< xX»> cC¢© vV“‘ bB”’ nNñÑ mMµº ,;◌´× .:·◌¨ -_◌¯÷`,
  pt: `
    \\|¬ 1!¹¡ 2"@⅛ 3#£ 4$§ 5%½⅜ 6&¬⅝ 7/{⅞ 8([™ 9)]± 0=}° '?\\¿ «»◌¸◌˛
    qQ@Ω wWſ§ eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ +*◌¨◌° ◌´◌\`◌~◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ çÇ◌´◌˝ ºª◌^◌ˇ ◌~◌^◌\`◌˘
    <>\\ zZ«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,;•× .:·÷ -_◌.◌˙`,
  br: `
    '"¬ 1!¹¡ 2@²½ 3#³¾ 4$£¼ 5%¢⅜ 6◌¨¬¨ 7&{⅞ 8*[™ 9(]± 0)}° -_\\¿ =+§◌˛
    qQ/ wW? eE° rR® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ ◌´◌\`´\` [{ª◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ çÇ◌´◌˝ ◌~◌^~^ ]}º
    \\|◌ˇ◌˘ zZ«< xX»> cC© vV„‚ bB“‘ nN”’ mMµ ,<•× .>·÷ ;:◌.◌˙
    ∅ /?°¿`,
  ca: `
    #|\\ 1!± 2"@ 3/£ 4$¢ 5%¤ 6?¬ 7&¦ 8*² 9(³ 0)¼ -_½ =+¾
    qQ wW eE rR tT yY uU iI oO§ pP¶ ◌^∅[ ◌¸◌¨]
    aA sS dD fF gG hH jJ kK lL ;:~ ◌\`∅{ <>}
    «»°¦ zZ xX cC vV bB nN mMµ ,'¯ . éÉ◌´`,
  se: `
    §½¶¾ 1!¡¹ 2"@² 3#£³ 4¤$¼ 5%€ 6&¥ 7/{÷ 8([« 9)]» 0=}° +?\\¿ ◌´◌\`±¬
    qQ∅Ω wW eE€¢ rR® tTþÞ yY←¥ uU↓↑ iI→ı oOœŒ pP åÅ◌¨◌° ◌¨◌^◌~◌ˇ
    aAªº sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ lLłŁ öÖøØ äÄæÆ '*´×
    <>|¦ zZ«< xX»> cC© vV„‚ bB“‘ nN”’ mMµº ,;◌¸◌˛ .:· -_◌.◌˙`,
  no: `
    |§¦¶ 1!¡¹ 2"@² 3#£³ 4¤$¼ 5%½‰ 6&¥⅝ 7/{÷ 8([« 9)]» 0=}° +?±¿ \\◌\`◌´¬
    qQ@Ω wWſ§ eE€¢ rR®™ tTþÞ yY←¥ uU↓↑ iI→ı oOœŒ pPπΠ åÅ◌¨◌° ◌¨◌^◌~◌ˇ
    aAªº sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ øØ◌´◌˝ æÆ◌^◌ˇ '*◌˝×
    <>½¾ zZ«< xX»> cC© vV„‚ bB“‘ nN”’ mMµº ,;◌¸◌˛ .:…· -_–—`,
  dk: `
    ½§¾¶ 1!¡¹ 2"@² 3#£³ 4¤$¼ 5%½¢ 6&¥⅝ 7/{÷ 8([« 9)]» 0=}° +?±¿ ◌´◌\`|¦
    qQ@Ω wWſ§ eE€¢ rR® tTþÞ yY←¥ uU↓↑ iI→ı oOœŒ pPþÞ åÅ◌¨◌° ◌¨◌^◌~◌ˇ
    aAªº sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ æÆ◌´◌˝ øØ◌^◌ˇ '*◌˝×
    <>\\¬ zZ«< xX»> cC© vV„‚ bB“‘ nN”’ mMµº ,;◌¸◌˛ .:·◌˙ -_◌.◌˙`,
  fi: `
    §½◌/ 1!∅¡ 2"@” 3#£» 4¤$« 5%‰“ 6&‚„ 7/{ 8([< 9)]> 0=}° +?\\¿ ◌´◌\`◌¸◌˛
    qQ wW eE€ rR tTþÞ yY uU iIı| oOœŒ pP◌+◌? åÅ◌˝◌° ◌¨◌^◌~◌¯
    aAəƏ sSßẞ dDðÐ fF gG hH jJ kKĸ lL◌/ öÖøØ äÄæÆ '*◌ˇ◌˘
    <>|¦ zZʒƷ xX×· cC vV bB nNŋŊ mMµ— ,;’‘ .:◌.◌˙ -_–◌,`,
  is: `
    ◌°◌¨¬ 1!¹¡ 2"²⅛ 3#³£ 4$¼¤ 5%½⅜ 6&¬⅝ 7/{⅞ 8([™ 9)]± 0=}° öÖ\\¿ -_◌¸◌˛
    qQ@Ω wWſ§ eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pP|π ðÐ◌¨◌° '?~◌¯
    aAæÆ sSßẞ dD„“ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ æÆ^◌˝ ◌´∅◌^◌ˇ +*\`◌˘
    <>|¦ zZ«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,;•× .:·÷ þÞ◌.◌˙`,
  pl: `
    \`~¬∨ 1!≠¡ 2@²¿ 3#³£ 4$¢¼ 5%€‰ 6^½∧ 7&§≈ 8*·¾ 9(«± 0)»° -_–— =+◌¸◌˛
    qQπΩ wWœŒ eEęĘ rR©® tTß™ yY←¥ uU↓↑ iI→↔ oOóÓ pPþÞ [{◌¨◌° ]}◌~◌¯
    aAąĄ sSśŚ dDðÐ fFæÆ gGŋŊ hH’• jJəƏ kK…◌/ lLłŁ ;:◌´◌˝ '"◌^◌ˇ \\|◌\`◌˘
    <>|¦ zZżŻ xXźŹ cCćĆ vV„‘ bB”“ nNńŃ mMµ∞ ,<≤× .>≥÷ /?◌.◌˙`,
  cz: `
    ;◌°\`~ +1!◌~ ě2@◌ˇ š3#◌^ č4$◌˘ ř5%◌° ž6^◌˛ ý7&◌\` á8*◌˙ í9{◌´ é0}◌˝ =%\\◌¨ ◌´◌ˇ◌¯◌¸
    qQ\\Ω wW|§ eE€ rR¶® tTŧŦ zZ←¥ uU↓↑ iI→ı oOøØ pPþÞ ú/[÷ )(]×
    aA~Æ sSđẞ dDĐÐ fF[ª gG]Ŋ hH\`Ħ jJ'◌+ kKł& lLŁ ů"$◌˝ §!'ß ◌¨'\\|
    \\|/¦ yY°< xX#> cC&© vV@‚ bB{‘ nN}’ mM^º ,?<× .:>÷ -_*◌˙`,
  sk: `
    ;◌°\`~ +1!◌~ ľ2@◌ˇ š3#◌^ č4$◌˘ ť5%◌° ž6^◌˛ ý7&◌\` á8*◌˙ í9{◌´ é0}◌˝ =%\\◌¨ ◌´◌ˇ◌¯◌¸
    qQ\\Ω wW|§ eE€ rR¶® tTŧŦ zZ←¥ uU↓↑ iI→ı oOøØ pPþÞ ú/[÷ ä(]×
    aA~Æ sSđẞ dDĐÐ fF[ª gG]Ŋ hH\`Ħ jJ'◌+ kKł& lLŁ ô"$◌˝ §!'ß ň)\\|
    \\|/¦ yY°< xX#> cC&© vV@‚ bB{‘ nN}’ mM^º ,?<× .:>÷ -_*◌˙`,
  hu: `
    0§¬ 1'~◌~ 2"◌ˇˇ 3+^◌^ 4!◌˘˘ 5%◌°° 6/◌˛˛ 7=\`◌\` 8(◌˙˙ 9)◌´´ öÖ◌˝˝ üÜ◌¨¨ óÓ◌¸¸
    qQ\\Ω wW|§ eEÄ rR¶® tTŧŦ zZ–¥ uU€↑ iIÍí oO„Ø pP”Þ őŐ÷◌° úÚ×◌¯
    aAäÄ sSđẞ dDĐÐ fF[ª gG]Ŋ hHħĦ jJíÍ kKł& lLŁ éÉ$¢ áÁßẞ űŰ¤◌˘
    íÍ<> yY>< xX#> cC&© vV@‚ bB{‘ nN}’ mM<º ,?;× .:>÷ -_*◌˙`,
  ro: `
    \`~ 1!◌~ 2@◌ˇ 3#◌^ 4$◌˘ 5%◌° 6^◌˛ 7&◌\` 8*◌˙ 9(◌´ 0)◌˝ -_◌¨– =+◌¸±
    qQâÂ wWßẞ eE€ rR tTțȚ yY uU iIîÎ oO pP§ [{„ ]}”
    aAăĂ sSșȘ dDđĐ fF gG hH jJ kK lLłŁ ;: '" \\|
    \\|∅¦ zZ xX cC© vV bB nN mM ,<« .>» /?`,
  si: `
    ¸¨ 1!◌~~ 2"◌ˇˇ 3#◌^^ 4$◌˘˘ 5%◌°° 6&◌˛˛ 7/◌\`\` 8(◌˙˙ 9)◌´' 0=◌˝˝ '?◌¨¨ +*◌¸¸
    qQ\\Ω wW|Ł eE€ rR¶® tTŧŦ zZ←¥ uU↓↑ iI→ı oOøØ pPþÞ šŠ÷◌° đĐ×◌¯
    aAæÆ sS„» dD“« fF[ª gG]Ŋ hHħĦ jJ◌?◌+ kKł& lLłŁ čČ◌´◌˝ ćĆß◌ˇ žŽ¤◌˘
    <>|¦ yY‘» xX’« cC¢© vV@\` bB{' nN} mM§º ,;<× .:>÷ -_—–`,
  hr: `
    \`~¬ 1!~◌~ 2"◌ˇˇ 3#^◌^ 4$◌˘˘ 5%°◌° 6&◌˛˛ 7/\`◌\` 8(◌˙˙ 9)◌´' 0=◌˝˝ '?◌¨¨ +*◌¸¸
    qQ\\Ω wW|Ł eE€ rR¶® tTŧŦ zZ←¥ uU↓↑ iI→ı oOøØ pPþÞ šŠ÷◌° đĐ×◌¯
    aAæÆ sS„» dD”« fF[ª gG]Ŋ hHħĦ jJ◌?◌+ kKł& lLłŁ čČ◌´◌˝ ćĆß◌ˇ žŽ¤◌˘
    <>|¦ yY‘» xX’« cC¢© vV@\` bB{' nN} mM§º ,;<× .:>÷ -_◌.◌˙`,
  ee: `
    ◌ˇ◌~ 1!¹¡ 2"@⅛ 3#£ 4¤$ 5%∅⅜ 6&¬⅝ 7/{⅞ 8([™ 9)]± 0=}° +?\\¿ ◌´◌\`\`
    qQ@Ω wW eE€¢ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ üÜ◌¨◌° õÕ§◌¯
    aAæÆ sSšŠ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ öÖ◌´◌˝ äÄ^ '*½◌˘
    <>|¦ zZžŽ xX» cC¢© vV„‚ bB“‘ nN”’ mMµº ,;<× .:>÷ -_|`,
  lt: `
    \`~´¬ ąĄ1! čČ2@ ęĘ3# ėĖ4$ įĮ5% šŠ6^ ųŲ7& ūŪ8* „(9 “)0 -_–¿ žŽ=+
    qQ@Ω wWſ§ eE€£ rR¶® tTŧŦ yY←¥ uU↓↑ iI→ı oOøØ pPþÞ [{◌¨◌° ]}◌~◌¯
    aAæÆ sSßẞ dDðÐ fFđª gGŋŊ hHħĦ jJ◌?◌+ kKĸ& lLłŁ ;:◌´◌˝ '"◌^◌ˇ \\|◌\`◌˘
    –€|¦ zZ«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº ,<•× .>·÷ /?◌.◌˙`,
  lv: `
    \`~´ 1!¹¡ 2@²⅛ 3#³£ 4$€¢ 5%½⅜ 6^¾⅝ 7&{⅞ 8*[™ 9(]± 0)}° -_\\¿ =+–—
    qQ wW eEēĒ rRŗŖ tT yY uUūŪ iIīĪ oOōŌ pP [{«“ ]}»”
    aAāĀ sSšŠ dD fF gGģĢ hH jJ kKķĶ lLļĻ ;: '"“„ \\|\`˘
    <>|¦ zZžŽ xX cCčČ vV bB nNņŅ mM ,<•× .>·÷ /?∅˙`,
  tr: `
    "é<° 1!>¡ 2'£² 3^#³ 4+$¼ 5%½⅜ 6&¾ 7/{ 8([ 9)]± 0=}° *?\\¿ -_|
    qQ@Ω wW eE€ rR¶® tT₺ yY←¥ uUûÛ ıIîÎ oOôÔ pP ğĞ◌¨◌° üÜ~◌¯
    aAâÂ sSß dD fFª gG hH jJ◌?◌+ kK lL şŞ´◌´ iİ'◌ˇ ,;\`◌\`
    <>|¦ zZ«< xX»> cC¢© vV„‚ bB“‘ nN”’ mMµº öÖ× çÇ·÷ .:◌˙`,
  ru: `
    ёЁ 1! 2" 3№ 4; 5% 6: 7? 8* 9( 0) -_ =+
    йЙ цЦ уУ кК еЕ нН гГ шШ щЩ зЗ хХ ъЪ
    фФ ыЫ вВ аА пП рР оО лЛ дД жЖ эЭ \\/
    /| яЯ чЧ сС мМ иИ тТ ьЬ бБ юЮ .,`,
  ua: `
    'ʼ∅~ 1!¹ 2"²’ 3№§₴ 4;$€ 5%° 6:< 7?> 8*• 9([{ 0)]} -_—– =+≠±
    йЙјЈ цЦџЏ уУўЎ кК® еЕёЁ нНњЊ гГ шШ щЩ зЗ хХ їЇъЪ
    фФ іІыЫ вВ аА пП рР оО лЛљЉ дДђЂ жЖ єЄэЭ ґҐ\\|
    /|∅¦ яЯ чЧћЋ сС© мМ иИ тТ™ ьЬ бБ«„ юЮ»“ .,/…`,
  bg: `
    () 1! 2? 3+ 4" 5% 6= 7: 8/ 9– 0№ -$ .€
    ,ы уУ еЕ иИ шШ щЩ кК сС дД зЗ цЦ ;§
    ьѝ яЯ аА оО жЖ гГ тТ нН вВ мМ чЧ „“
    ѝЍ юЮ йЙ ъЪ эЭ фФ хХ пП рР лЛ бБ`,
  gr: `
    \`~ 1!∅¹ 2@½² 3#£³ 4$¼¾ 5%€ 6^ϰ 7&ϗϏ 8*₯ 9( 0)° -_± =+
    ;:· ςΣϛϚ εΕ€ ρΡ®ϱ τΤ υΥϒ θΘϑϴ ιΙͻϽ οΟ πΠϡϠ [{◌~◌¯ ]}∅◌˘
    αΑ σΣ δΔ↓↑ φΦϕ γΓϝϜ ηΗ ξΞͼϾ κΚϟϞ λΛϲϹ ◌´◌¨ '"◌\` \\|
    «»|¦ ζΖͽϿ χΧ→← ψΨ© ωΩϖ βΒϐ νΝ∅͵ μΜϻϺ ,<« .>»· /?`,
  jp: `
    ∅ 1! 2" 3# 4$ 5% 6& 7' 8( 9) 0~ -= ^~
    qQ wW eE rR tT yY uU iI oO pP @\` [{
    aA sS dD fF gG hH jJ kK lL ;+ :* ]}
    <> zZ xX cC vV bB nN mM ,< .> /?
    \\| \\_`,
} as const;

export type LayoutName = keyof typeof TABLES;
export const LAYOUT_NAMES = Object.keys(TABLES) as readonly LayoutName[];

/** One key, with others held while it is pressed; `KEY_*`. */
export interface Stroke {
  readonly code: number;
  readonly modifiers: readonly number[];
}

export interface Layout {
  readonly name: LayoutName;
  /** By character. */
  readonly strokes: ReadonlyMap<string, Stroke>;
  /** Dead keys by the combining character that they add. */
  readonly deadKeys: ReadonlyMap<string, Stroke>;
}

/** A text has a character that no keys of the layout type. */
export class UntypableError extends Error {
  override readonly name = 'UntypableError';
  readonly character: string;

  constructor(character: string, layout: LayoutName) {
    const code = (character.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, '0');
    super(`the keyboard layout ${layout} cannot type "${character}" (U+${code})`);
    this.character = character;
  }
}

const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const KEY_GRAVE = 41;
const KEY_BACKSLASH = 43;
const KEY_102ND = 86;
const KEY_YEN = 124;
const KEY_RO = 89;
const ROWS = [
  [KEY_GRAVE, ...range(2, 13)],
  range(16, 27),
  [...range(30, 40), KEY_BACKSLASH],
  [KEY_102ND, ...range(44, 53)],
  [KEY_YEN, KEY_RO],
];

const KEY_LEFTSHIFT = 42;
const KEY_RIGHTALT = 100;
const LEVELS = [[], [KEY_LEFTSHIFT], [KEY_RIGHTALT], [KEY_LEFTSHIFT, KEY_RIGHTALT]];

const plain = (code: number): Stroke => ({ code, modifiers: [] });
const SPACE = plain(57);
/** On every layout. */
const COMMON: readonly [string, Stroke][] = [
  [' ', SPACE],
  ['\n', plain(28)],
  ['\t', plain(15)],
];

const DEAD = '◌';
const NOTHING = '∅';
/** What the accent of a dead key adds to a letter. */
const COMBINING: ReadonlyMap<string, string> = new Map([
  ['`', '\u0300'],
  ['´', '\u0301'],
  ['^', '\u0302'],
  ['~', '\u0303'],
  ['¯', '\u0304'],
  ['˘', '\u0306'],
  ['˙', '\u0307'],
  ['¨', '\u0308'],
  ['?', '\u0309'],
  ['°', '\u030a'],
  ['˝', '\u030b'],
  ['ˇ', '\u030c'],
  ['+', '\u031b'],
  ['.', '\u0323'],
  [',', '\u0326'],
  ['¸', '\u0327'],
  ['˛', '\u0328'],
  ['/', '\u0338'],
]);
/** Accents that a dead key types with the space key behind it, and with itself. */
const BEFORE_SPACE = ['`', '^', '~'];
const TWICE = ['´', '¨'];

const layouts = new Map<LayoutName, Layout>();

/** The layout of this name. */
export function layoutOf(name: LayoutName): Layout {
  const known = layouts.get(name);
  if (known) return known;
  const strokes = new Map(COMMON);
  const deadKeys = new Map<string, Stroke>();
  const keys = keysOf(name);
  // What takes fewer modifiers comes first.
  for (const [level, modifiers] of LEVELS.entries()) {
    for (const { code, symbols } of keys) {
      const symbol = symbols[level] ?? NOTHING;
      const [map, key] =
        symbol.startsWith(DEAD) && symbol.length > 1
          ? [deadKeys, COMBINING.get(symbol.slice(1)) as string]
          : [strokes, symbol];
      if (symbol !== NOTHING && !map.has(key)) map.set(key, { code, modifiers });
    }
  }
  const layout = { name, strokes, deadKeys };
  layouts.set(name, layout);
  return layout;
}

/** Each key with what it types by level. */
function keysOf(name: LayoutName): { code: number; symbols: readonly string[] }[] {
  return TABLES[name]
    .trim()
    .split('\n')
    .flatMap((row, index) =>
      row
        .trim()
        .split(' ')
        .map((word, column) => ({
          code: ROWS[index]?.[column] as number,
          symbols: word.match(/◌.|./gu) as readonly string[],
        })),
    );
}

/** The keys that type `text`, one after the other. Throws `UntypableError`. */
export function strokesFor(text: string, name: LayoutName): Stroke[] {
  const layout = layoutOf(name);
  const typed = text.replaceAll(/\r\n?/g, '\n').normalize('NFC');
  return [...typed].flatMap((character) => {
    const strokes = strokesOf(character, layout);
    if (!strokes) throw new UntypableError(character, name);
    return strokes;
  });
}

/** The keys for one character, with a dead key where it needs one. */
function strokesOf(character: string, { strokes, deadKeys }: Layout): Stroke[] | undefined {
  const direct = strokes.get(character);
  if (direct) return [direct];
  const dead = deadKeys.get(COMBINING.get(character) ?? '');
  if (dead && BEFORE_SPACE.includes(character)) return [dead, SPACE];
  if (dead && TWICE.includes(character)) return [dead, dead];
  const [base, mark, ...more] = character.normalize('NFD');
  // Dead keys are for ordinary letters: not for accents, or for letters that are forms of others.
  if (!base || !mark || more.length > 0 || !/\p{L}/u.test(base) || base !== base.normalize('NFKD'))
    return undefined;
  const accent = deadKeys.get(mark);
  const letter = strokes.get(base);
  return accent && letter && [accent, letter];
}
