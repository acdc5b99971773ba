"""Words that everybody uses in reports of ECGs, English and German: as a part of a name they tell nothing."""

COMMON = """
a ab aber about af afib afl after ago al all als also am ami an and ans any as at auch auf aus av avf avl avnrt avr
avrt be before bei beim between bin bis both bp bpm but by bzw ca can cm could da das de dei del della delle dem den
der des di die do dos du due durch during each ecg ein eine einem einen einer eines ekg el er es etc evtl far for from
für gegen ggf go haben had has hat have he her here his hr hz ibn ich if ihr ii iii im in ins into is ist it its iv ja
je kann kein keine keinen keiner kg la lad lae lafb lahb las lbb lbbb le least les less los low lpfb lv lvh man max
may mdc me mehr mi mid might min mit mm more most ms msec must mv my nach nein new nicht no noch non nor not now
nstemi nun nur ob oder of off ohne on only onto or other our out over own pac pacs per pp pq pr pvc pvcs qr qrs qs qt
qtc ra rad rae rbb rbbb rr rs rv rvh sa said same sec see sehr seit shall she should sie since sind so some sr st
stemi such sves svt ten ter than that the then there these this those to too um und under unter until up us uv van
very ves vf vi via vii vom von vor vs vt war waren was we wegen well werden were who wie will wir wird with within
without wo would wpw yes your zu zum zur zwischen über
"""
"""Words that hold sentences together, and signs of the ECG."""

FINDINGS = """
abbreviated aberrancy aberrant aberration aberrierend abgang abgelaufen ableitbar ableitung ableitungen abnorm
abnormal abnormalities abnormality above absent absolut abweichung accelerated accessory according active activity
adequate adjacent adult age aged aging aktiv aktuell akut akute akuter akutes allgemein alt alte alter altered
alternans alternating alternative alters altersgemäß amplitude amplitudes analysis andere aneurysm angedeutet
angehoben angle anomaly antegrade anterior anteriorer anteriorly anteroapical anterolateral anterolateraler
anteroseptal anteroseptaler apex apical apikal apparent appropriate area arm arrest arrhythmia arrhythmias arrhythmic
arrhythmie arrhythmisch artefact artefacts artefakt artefakte artifact artifacts artificial associated asymptomatic
asystole athlete athletic atria atrial atrioventricular atrium atypical atypisch auffällig auffälligkeit ausgeprägt
ausschluss ausstehend average axes axis background basal base baseline baselines beat beating beats befund befunde
beginnend bekannt bekannter belastung below bereich beschleunigt better beurteilung biatrial bifascicular bigeminal
bigeminy bilateral bild biphasic bipolar biventricular block blockade blockbild blocked blockiert blocking blocks
borderline bradyarrhythmia bradycardia bradykard bradykardie branches breit breite breiter broad bundle bundles burst
capture captured cardiogram cardiomyopathy cause caused causes center central certain chamber chambers change changed
changes changing channel channels characteristic check chronic classification clear clinically clockwise coarse
combined common compare compared comparison compatible compensatory complete completely complex complexes computer
concave concealed concern concordant condition conducted conduction confirm confirmed congenital consecutive consider
considered consistent consult contour contraction contractions convex correct corrected correlate correlation
counterclockwise couplet couplets coupling coved criteria criterion critical current currently cycle damage data date
dauer day days decrease decreased deep defect degree degrees delay delayed delta demand depressed depression
depressions detected detection deutlich deutliche development deviation deviations device dextrocardia diagnose
diagnosen diagnosis diagnostic diaphragm diastolic difference different differenz diffus diffuse digitalis digoxin
dilatation dilation discordant disease disorder dissociation distal disturbance disturbances dominant double down
downsloping drug dual duration dynamic dysfunction early echo ectopic ectopy effect effects eher eight eighth einzelne
einzelner electric electrical electrocardiogram electrocardiograms electrocardiographic electrode electrodes
electrolyte electronic elektrisch elevated elevation elevations embolism end enlarged enlargement entire epicardial
episode episodes equal erhöht erhöhung erregung erregungs erregungsausbreitung erregungsbildung erregungsleitung
erregungsrückbildung error ersatz ersatzrhythmus erste ersten erster escape escapes essential evaluate evaluation
event events evidence evolving exaggerated examination excessive exclude excluded exercise exertion existing expected
extensive extrasystole extrasystolen extrasystoles extreme failure fascicle fascicular fast fehlend fehlender female
fibrillation fibrillatory field fifth final finding findings fine first five fixed flach flache flat flattened
flattening flutter focal focus follow following followup form four fourth fraction fraglich fraglicher fragmented
frequency frequent frequently frequenz frisch frischer front frontal full function functional funktion fusion gain
gehäuft general generalized gering geringe geringer gesamt gipfel gleich glied good grad grade grades gradual grenze
grenzwertig gross grouped groß große großer half hearts hebung hebungen height hemiblock hemifascicular herzachse
herzfrequenz herzinfarkt herzrhythmus herzschrittmacher high higher highly hinterwand hinterwandinfarkt hinweis
hinweise hoch hohe hoher hyperacute hyperkalemia hypertension hypertrophic hypertrophy hypocalcemia hypokalemia
hypothermia hypoxia höher idiopathic idioventricular implanted impression improved improvement inadequate incomplete
increase increased increasing indeterminate index indicate indicated indicates indicating indifferent indifferenttyp
infarct infarction infarctions infarcts infarkt infarkte infarktes infarkts inferior inferiorer inferiorly
inferoapical inferolateral inferoposterior information infrequent inhibited initial injury inkomplett inkompletter
innerhalb insgesamt insignificant inspiration insufficient interatrial interference intermittent intermittierend
interpolated interpretation interpreted interval intervals interventricular intraatrial intraventricular intrinsic
inversion inversions invert inverted involving irregular irregularities irregularity irregularly ischaemia ischaemic
ischemia ischemic ischämie isoelectric isolated isorhythmic jahr jahre jahren junction junctional juvenile kammer
kammern klein kleine kleiner known komplett kompletter kontrolle kurz kurze lack lage lagetyp lang lange langes
langsam large last late latent lateral laterally lead leads left leicht leichte leichter leitung length lesion level
levels likely limb limbs limit limits line linear linie linke linker links linksherz linkslagetyp linksschenkelblock
linkstyp linksventrikulär list local long longer loss lower machine main major male malfunction manual marked markedly
massive mean measured measurement measurements medication middle mild mildly millimeter minimal minimum minor minute
minutes missing mitral mittel mittlere mixed moderate moderately monitor monomorph monomorphic month months
morphologies morphology motion multifocal multiform multiple muscle myocardial myocarditis myocardium myokard mäßig
möglich möglicher möglicherweise nachweis nahezu narrow native nature near negativ negative negativierung neonatal
niedervoltage niedrig nine ninth noise nonconducted nondiagnostic none nonischemic nonspecific nonsustained norm
normal normalbefund normale normalen normaler normales normalization normalized normally normals notable notch notched
note noted number numerous oben obere obsolete occasional occasionally old older one onset open opinion optimal order
origin otherwise outflow output overall overdrive overload overread overreader overview pace paced pacemakers pacer
page pair paired pairs panel paper parasystole paroxysmal part partial partially past patch pathologisch patient
patienten patients pattern patterns pause pausen pauses peak peaked peaks pediatric percent pericardial pericarditis
period periphere persistent persistierend person phase physiologic placed placement plane polymorph poor poorly
position positiv positive possible possibly post posterior posteriorly posterolateral potential precordial predominant
preexcitation preliminary premature presence present presentation pressure previous previously primary prior probable
probably problem procedure progression prolongation prolonged prominent pronounced proximal präterminal pseudo
pulmonary pulse quadrigeminy quality quarter quer question questionable quick range rapid rare rarely rasch rate rates
ratio reading reason recent rechte rechter rechts rechtsherz rechtsschenkelblock rechtstyp reciprocal recommend
recommended record recorded recordings reduced reentrant reentry reference regelmäßig regelrecht regular regularly
related relative relatively remaining repeat repeated repolarization report reported reports represent resolution
resolved response rest resting result results retrograde reversal reverse reversed review reviewed rhythm rhythmic
rhythms rhythmus right rotation ruhe rule ruled run runs rückbildung salvo salvos sample samples scar schenkel
schenkelblock schlag schläge schmal schmale schnell schrittmacher schwach schwankung schwer scooped score second
secondary seconds seen segment segmental segments seitenwand selten senkung senkungen sensing septal septum serial
series setting seven seventh severe severely shape shift short shortened shorter sicher sichtbar side sign signal
signals significance significant significantly signifikant signs similar single sinoatrial sinus sinusrhythmus site
six sixth size slight slightly slow slowed slower slowing slurred slurring small source spannung spasm special
specific spike spikes spitz spitze stable standard stark start statement static status steil steiltyp step still
strain strecke strecken streckenhebung streckensenkung stress strip strong study störung störungen subacute
subendocardial subsequent sudden suggest suggested suggestive suggests superior supraventricular supraventrikulär
suspect suspected suspicious sustained symmetric symmetrical symptom symptoms syncope syndrome systole systolic
tachyarrhythmia tachycardia tachycardias tachykard tachykardie tall technical teil teils telemetry tendency tenth term
terminal third three threshold tief tiefe time times tissue torsade total trace tracing tracings transient transition
transmural treatment tremor trend trifascicular trigeminy trigger triplet triplets true twelve twice two typ type
types typical typisch unable unauffällig unbekannt unchanged unclear unconfirmed undetermined unifocal uniform
unipolar unknown unlikely unregelmäßig unspecific unspecified unspezifisch unstable untere unusual unverändert upper
upright upsloping upward use used usual usually vagal value values variable variant variation varying vector ventricle
ventricles ventricular ventrikel ventrikulär verbreitert verdacht vereinzelt vergleich verified verkürzt verlauf
verlust verlängert verlängerung vermutlich versus vertical verzögert verzögerung verändert veränderung veränderungen
view voll vollständig voltage voltages vorder vorderwand vorderwandinfarkt vorhanden vorhof vorhofflattern
vorhofflimmern vorhöfe vorzeitig wahrscheinlich wall wander wandering wave waveform waveforms waves wechselnd weit
welle wellen weniger wert werte wide widened width window work worse year years young zacke zacken zeichen zeit
zeitweise zero zunahme zustand zusätzlich zweite zweiten zweiter überdreht überleitung überwiegend
"""
"""Words of statements and measurements."""

HOSPITALS = """
abteilung academic acute admin administrator admission admissions allee ambulance ambulanz ambulatory anaesthesia
anesthesia arzt assessment assistant assistenzarzt automatic avenue bay bed benutzer bett branch building cardiac
cardiologie cardiologist cardiology cardiovascular care cath catheter centers centre chest chirurgie city clinic
clinica clinical clinics clinique college community consultant coronary county default demo department departments
dept division doctor doctors drive east eastern editor electrophysiology elektrokardiogramm emergency ergometry etage
faculty floor foundation gebäude geriatric geriatrics group haus health heart herz holter hopital hospital hospitals
house inner innere inpatient inpatients institut institute institution intensive intensivstation internal kardiologie
kardiologische klinik kliniken klinikum krankenhaus lab labor laboratories laboratory labs lane location maternity
medical medicine medizin medizinisch medizinische medizinischen memorial mfa mta national nephrology neurology nord
north northern notaufnahme notfall nurse nurses nursing oberarzt obstetrics office oncology operating operator
operators ospedale ost outpatient outpatients pacemaker pacing paediatric paediatrics pain pediatrics pfleger
physician physicians place platz practice praxis private public pulmonology radiology raum reader recording recovery
regional reha rehabilitation research resident residents road room rooms royal saint sankt school schwester science
sciences section service services south southern square stadt staff startdate state station stations stepdown stock
strasse street stroke student surgery surgical system süd teaching team tech technician technicians technologist techs
test theater theatre town triage trust unit units university universität universitätsklinik universitätsklinikum
untersucher user users ward wards weg west western zentrum zimmer ärzte ärztin
"""
"""Words of hospitals and of those who work there."""

ENDINGS = {
    *"aeinsuy",
    "em",
    "en",
    "er",
    "es",
    "ie",
    "im",
    "in",
    "na",
    "ne",
    "ns",
    "oj",
    "om",
    "ov",
    "ow",
    "ej",
    "ym",
    "um",
}
"""What languages put behind a name, as in `Brombachs`."""
